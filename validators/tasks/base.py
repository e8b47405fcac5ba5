"""The interface of tasks. A task knows the meaning of a model's inputs and outputs.

A task is a module in this folder that defines ``TASK``; its name is that of the module, with hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean
from equipoise.convert.core.plugins import PluginFolder
from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import read_samples
from equipoise.validators.parameters.declarations import tasks_without_tokenizer


class Task(Protocol):
    """A pipeline task; one stateless instance serves all models."""

    name: str
    aliases: tuple[str, ...]
    auto_class: str
    """The auto class of transformers, such as ``AutoModelForSequenceClassification``."""

    def suits(self, model: ModelFolder) -> bool:
        """Checks whether the model's class and files are made for this task."""
        ...

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns at least three samples of different sizes, for a model whose folder contains none."""
        ...

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases: batches of one and three samples, with padding, of long inputs ..."""
        ...

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Returns the arrays of a case, from the model's own tokenizer or processor."""
        ...

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """Returns the outputs of a batch: of one forward pass, or of a generation loop.

        Args:
            runner: The model.
            model: Its folder.
            batch: The result of :meth:`encode`.
            follow: The reference's outputs for the same batch. A loop that chooses tokens continues with the
                reference's choices, so that the outputs remain comparable, and returns its own choices too.
        """
        ...

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns what ``pipeline()`` returns, one result per sample; ``options`` are those of its call (``top_k`` ...)."""
        ...

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the decisions that a person reads off the outputs, with their margins."""
        ...


def forward(runner: Runner, batch: Batch) -> Arrays:
    """Runs one forward pass with the inputs that the model accepts."""
    inputs = {name: value for name, value in batch.arrays.items() if name in runner.accepts}
    return runner.run(inputs, **batch.kwargs)


def run_single_pass(
    self: object, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
) -> Arrays:
    """:meth:`Task.run` of a task with one forward pass.

    Raises:
        InputError: The text of a call has no token.
    """
    ids = batch.arrays.get("input_ids")
    if PIPELINE in batch.case.options and ids is not None and not ids.size:
        raise InputError("the text has no token", found=str(batch.case.samples[0]))
    return forward(runner, batch)


def pipeline_case(
    samples: Sequence[Sample],
    *,
    cache: bool,
    task: str = "",
    defaults: Mapping[str, CallOption] | None = None,
    options: Mapping[str, CallOption] | None = None,
) -> Case:
    """Returns the case that ``pipeline()`` runs: texts as they are, the pipeline's settings, and a cache if the model has one.

    Args:
        samples: The samples.
        cache: Whether the model has a cache.
        task: The task as it was asked for, such as ``translation_en_to_de``.
        defaults: The pipeline's own generation settings.
        options: Options of the call that change what the model is given.
    """
    call = {"task": task, "defaults": dict(defaults or {})}
    return Case("pipeline", tuple(samples), {"cache": cache, PIPELINE: call, **(options or {})})


def load_samples(task: Task, model: ModelFolder) -> list[Sample]:
    """Returns the samples in the model's folder, or the task's own; media paths are joined with the folder.

    Raises:
        CheckpointError: A path leads out of the folder.
    """
    file = model.path / "samples.json"
    return list(read_samples(file, inside=True)) if file.is_file() else task.samples(model)


TASKS = PluginFolder("equipoise.validators.tasks", "equipoise.tasks", "TASK")
"""The built-in tasks, and those of other packages in the entry-point group ``equipoise.tasks``."""

_TRANSLATION = re.compile(r"translation_\w+_to_\w+")


def task_names() -> list[str]:
    """Lists the names of all tasks."""
    return sorted(TASKS.names())


def find_task(name: str) -> Task:
    """Returns a task by its name or an alias; ``translation_en_to_de`` is a translation, as in ``pipeline()``.

    Raises:
        InputError: There is no such task.
    """
    if _TRANSLATION.fullmatch(name):
        name = "translation"
    if name in TASKS.names():
        return _load_task(name)
    for known in task_names():
        task = _load_task(known)
        if name in task.aliases:
            return task
    raise InputError(
        "no such task",
        found=name,
        expected=", ".join(task_names()),
        hint=did_you_mean(name, [*task_names(), *_aliases()]),
    )


def _aliases() -> list[str]:
    return [alias for name in task_names() for alias in _load_task(name).aliases]


def infer_task(model: ModelFolder) -> Task:
    """Returns the task that a model is made for.

    Raises:
        InputError: No task or several tasks suit the model, so that the user must choose.
    """
    suitable = [task for task in map(_load_task, task_names()) if task.suits(model)]
    if len(suitable) == 1:
        return suitable[0]
    if not suitable and not model.has_tokenizer:
        raise model.needs_tokenizer(tasks_without_tokenizer())
    raise InputError(
        "several tasks suit the model" if suitable else "no task suits the model",
        file=model.path,
        found=", ".join(task.name for task in suitable) or model.class_name or "no architectures",
        hint="choose one with --task: " + ", ".join(task_names()),
    )


def _load_task(name: str) -> Task:
    task: Task = TASKS.load(name)
    return task
