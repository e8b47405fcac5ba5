"""A validation before anything runs: the model, its task, and every case as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import InputError
from equipoise.validators.architectures import pytorch_class
from equipoise.validators.forms import Form, form_of_model
from equipoise.validators.model import ModelFolder
from equipoise.validators.request import Request
from equipoise.validators.tasks import find_task, task_of
from equipoise.validators.tasks.base import Batch, Task, samples_of
from equipoise.validators.workers import Workers

LARGE = 1 << 30
"""Bytes of weights."""

REFERENCE = "-reference"
"""The process of the reference is not that of the backend."""


@dataclass(frozen=True)
class Setup:
    """What every step of a validation needs.

    Attributes:
        request: What was asked for.
        workers: The processes.
        scratch: A folder that may be written to.
        model: The model.
        task: Its task.
        class_name: PyTorch's class.
        pytorch: The form that PyTorch loads.
        batches: Every case.
    """

    request: Request
    workers: Workers
    scratch: Path
    model: ModelFolder
    task: Task
    class_name: str
    pytorch: Form
    batches: tuple[Batch, ...]

    @cached_property
    def weight_bytes(self) -> int:
        """What the weights take on disk."""
        return sum(path.stat().st_size for path in open_checkpoint(self.pytorch.path).files)

    @property
    def large(self) -> bool:
        """Whether only one copy of the model is to be in memory at a time."""
        return self.weight_bytes >= LARGE

    def make_room(self, apart: str = "") -> None:
        """Ends a process that held a large model in PyTorch; exporters leave copies behind that nothing frees."""
        if self.large:
            self.workers.end("pytorch", apart=apart)


def prepare(request: Request, workers: Workers, scratch: Path) -> Setup:
    """Reads the model's folder and encodes the samples.

    Raises:
        InputError: The model, the task, the precision or a sample cannot be used.
    """
    assert_known(request)
    model = ModelFolder(request.model)
    task = find_task(request.task) if request.task else task_of(model)
    return Setup(
        request=request,
        workers=workers,
        scratch=scratch,
        model=model,
        task=task,
        class_name=pytorch_class(model, task),
        pytorch=form_of_model(model, "pytorch", scratch),
        batches=tuple(_batches(request, model, task)),
    )


def assert_known(request: Request) -> None:
    """Refuses what cannot be meant.

    Raises:
        InputError: The precision or the device has no such name.
    """
    _ = request.allowed
    kind, _, index = request.device.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdigit():
        raise InputError("no such device", found=request.device, expected="cpu, cuda or cuda:1")


def _batches(request: Request, model: ModelFolder, task: Task) -> list[Batch]:
    samples: Sequence[Mapping[str, Any]] = list(request.samples or samples_of(task, model))
    cases = task.cases(model, samples)
    wanted = request.cases
    if wanted is not None:
        unknown = set(wanted) - {case.name for case in cases}
        if unknown:
            raise InputError(
                f"the task {task.name} has no case {', '.join(sorted(unknown))}",
                expected=", ".join(case.name for case in cases),
            )
        cases = [case for case in cases if case.name in wanted]
    return [task.encode(model, case) for case in cases]
