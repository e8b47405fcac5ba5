"""Finds the class of transformers for a task through the mappings of its auto classes; needs no framework."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from equipoise.convert.core.errors import InputError
from equipoise.validators.models.folder import ModelFolder

_OTHER_AUTO_CLASSES = {
    "AutoModelForSpeechSeq2Seq": ("AutoModelForCTC",),
    "AutoModelForSemanticSegmentation": (
        "AutoModelForUniversalSegmentation",
        "AutoModelForInstanceSegmentation",
        "AutoModelForImageSegmentation",
    ),
    "AutoModelForTextToWaveform": ("AutoModelForTextToSpectrogram",),
    "AutoModelForDocumentQuestionAnswering": ("AutoModelForImageTextToText",),
}
"""Further auto classes of the same task."""


class TaskClasses(Protocol):
    """The part of a task that decides about classes; see :class:`equipoise.validators.tasks.base.Task`."""

    name: str
    auto_class: str

    def suits(self, model: ModelFolder) -> bool:
        """Checks whether the model's class and files are made for this task."""
        ...


def class_names_by_type(auto_class: str) -> dict[str, tuple[str, ...]]:
    """Returns the class names of an auto class by model type; empty if transformers has no such auto class."""
    # Without torch, transformers exposes a placeholder as attribute; importing by name returns the real module.
    modeling_auto = import_module("transformers.models.auto.modeling_auto")
    auto = getattr(modeling_auto, auto_class, None)
    names = auto._model_mapping._model_mapping if auto is not None else {}
    return {
        str(model_type): (name,) if isinstance(name, str) else tuple(name)
        for model_type, name in names.items()
    }


def pytorch_class(model: ModelFolder, task: TaskClasses) -> str:
    """Returns the PyTorch class that loads the model for a task.

    That is the config's own class if it is made for the task; else the first of transformers' mapping.

    Raises:
        InputError: transformers has no class of that model type for the task, or only the folder's own code has it.
    """
    if model.class_name and task.suits(model):
        # transformers is asked only where there is a doubt: the answer imports the module of the class.
        if model.own_code and not hasattr(import_module("transformers"), model.class_name):
            raise model.needs_own_code()
        return model.class_name
    for auto_class in (task.auto_class, *_OTHER_AUTO_CLASSES.get(task.auto_class, ())):
        names = class_names_by_type(auto_class).get(model.model_type, ())
        if names:
            return model.class_name if model.class_name in names else names[0]
    if model.own_code:
        raise model.needs_own_code()
    raise InputError(
        f"transformers has no class of this model type for {task.name}",
        file=model.path,
        found=model.model_type or "no model_type",
        hint="choose another task with --task",
    )


def has_class(model: ModelFolder, *auto_classes: str) -> bool:
    """Checks whether the config's class is in the mapping of one of these auto classes."""
    return any(
        model.class_name in class_names_by_type(auto_class).get(model.model_type, ())
        for auto_class in auto_classes
    )
