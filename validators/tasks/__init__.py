"""Pipeline tasks, one file each, found by the file's name."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from equipoise.convert.core.errors import InputError
from equipoise.validators.model import ModelFolder
from equipoise.validators.tasks.base import Task

GROUP = "equipoise.tasks"
"""Other packages add tasks as entry points of this group."""

_TRANSLATION = re.compile(r"translation_\w+_to_\w+")

_SHARED = (
    "base",
    "text",
    "vision",
    "audio",
    "films",
    "generating",
    "seq2seq",
    "labels",
    "entities",
    "spans",
    "pages",
    "segments",
    "masks",
    "contrastive",
)
"""Files of this folder that several tasks share."""


def task_names() -> list[str]:
    """The names of all tasks."""
    files = {path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[a-z]*.py")}
    return sorted((files - set(_SHARED)) | {entry.name for entry in entry_points(group=GROUP)})


def find_task(name: str) -> Task:
    """A task by its name or an alias of it; ``translation_en_to_de`` is a translation, as in pipeline().

    Raises:
        InputError: No task is called so.
    """
    if _TRANSLATION.fullmatch(name):
        name = "translation"
    if name in task_names():
        return _load(name)
    for known in task_names():
        task = _load(known)
        if name in task.aliases:
            return task
    raise InputError("no such task", found=name, expected=", ".join(task_names()))


def task_of(model: ModelFolder) -> Task:
    """The task that a model is made for.

    Raises:
        InputError: None or several suit; the user must say which.
    """
    suiting = [task for task in map(_load, task_names()) if task.suits(model)]
    if len(suiting) == 1:
        return suiting[0]
    raise InputError(
        "several tasks suit the model" if suiting else "no task suits the model",
        file=model.path,
        found=", ".join(task.name for task in suiting) or model.class_name or "no architectures",
        hint="say which with --task; " + ", ".join(task_names()),
    )


def _load(name: str) -> Task:
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return entry.load()  # type: ignore[no-any-return]
    task: Task = import_module(f"{__name__}.{name.replace('-', '_')}").TASK
    return task
