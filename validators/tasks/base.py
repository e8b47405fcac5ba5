"""What a task is: it owns what a model's inputs and outputs mean.

A task is one file in this folder that defines ``TASK``; its name is the file's, with hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.plugins import PluginFolder
from equipoise.validators.core.types import (
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
from equipoise.validators.models.samples import resolve_media_paths


class Task(Protocol):
    """A pipeline task; one instance without state serves every model."""

    name: str
    aliases: tuple[str, ...]
    auto_class: str
    """The auto class of transformers, e.g. ``AutoModelForSequenceClassification``."""

    def suits(self, model: ModelFolder) -> bool:
        """Whether the model's class and files are made for this task."""
        ...

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Real samples for a model whose folder brings none; of unequal sizes, three at least."""
        ...

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """How a batch varies: one, three, padded, long, left and right."""
        ...

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """The arrays of a case, through the model's own tokenizer or processor."""
        ...

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """The outputs of a batch: one forward pass, or a loop of them.

        Args:
            runner: The model.
            model: Its folder.
            batch: What :meth:`encode` gave.
            follow: Outputs of the reference for the same batch. A loop that chooses tokens takes the
                reference's choices, so that the numbers stay comparable, and reports its own beside.
        """
        ...

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """What ``pipeline()`` returns, one a sample; ``options`` are those of its call (``top_k`` ...)."""
        ...

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """What is decided and how firmly, read off the reference's outputs."""
        ...


def forward(runner: Runner, batch: Batch) -> Arrays:
    """One forward pass with the inputs that the model takes."""
    known = {name: value for name, value in batch.arrays.items() if name in runner.accepts}
    return runner.run(known, **batch.kwargs)


def run_single_pass(
    self: object, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
) -> Arrays:
    """:meth:`Task.run` of a task that needs one forward pass."""
    return forward(runner, batch)


def pipeline_case(samples: Sequence[Sample], *, cache: bool) -> Case:
    """What ``pipeline()`` does with samples: as the generation config says, with a cache if there is one."""
    return Case("pipeline", tuple(samples), {"cache": cache})


def samples_of(task: Task, model: ModelFolder) -> list[Sample]:
    """The samples that the folder brings, or the task's own; files of media under their whole paths."""
    brought = [resolve_media_paths(model.path, entry["inputs"]) for entry in model.samples]
    return brought or task.samples(model)


TASKS = PluginFolder("equipoise.validators.tasks", "equipoise.tasks", "TASK")
"""The built-in tasks, and those that other packages offer in the entry-point group ``equipoise.tasks``."""

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
    raise InputError("no such task", found=name, expected=", ".join(task_names()))


def infer_task(model: ModelFolder) -> Task:
    """Returns the task that a model is made for.

    Raises:
        InputError: No task or several tasks suit the model, so that the user must choose.
    """
    suitable = [task for task in map(_load_task, task_names()) if task.suits(model)]
    if len(suitable) == 1:
        return suitable[0]
    raise InputError(
        "several tasks suit the model" if suitable else "no task suits the model",
        file=model.path,
        found=", ".join(task.name for task in suitable) or model.class_name or "no architectures",
        hint="say which with --task; " + ", ".join(task_names()),
    )


def _load_task(name: str) -> Task:
    task: Task = TASKS.load(name)
    return task
