"""Prepares an evaluation before anything runs: the model, its task, and every case as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import InputError
from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Arrays, Batch, Case, Decision, Sample
from equipoise.validators.models.auto_classes import pytorch_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.sources import ModelSource, resolve_model
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.tasks.base import Task, find_task, infer_task, load_samples

LARGE_MODEL_BYTES = 1 << 30
"""From this size of weights on, only one copy of a model is in memory at a time."""

REFERENCE_PROCESS = "-reference"
"""Suffix of the reference's worker process, which is not that of the backend ``pytorch``."""


@dataclass(frozen=True)
class EvaluationContext:
    """What every step of a validation or an export needs.

    Attributes:
        request: What to validate, and how.
        pool: The worker processes.
        scratch: A folder for temporary files.
        model: The model's folder.
        task: Its task.
        class_name: PyTorch's class.
        pytorch: The source that PyTorch loads.
        batches: Every case as arrays.
    """

    request: Request
    pool: WorkerPool
    scratch: Path
    model: ModelFolder
    task: Task
    class_name: str
    pytorch: ModelSource
    batches: tuple[Batch, ...]

    @cached_property
    def weight_bytes(self) -> int:
        """Size of the weights on disk in bytes."""
        return sum(path.stat().st_size for path in open_checkpoint(self.pytorch.path).files)

    @property
    def large(self) -> bool:
        """Whether only one copy of the model may be in memory at a time."""
        return self.weight_bytes >= LARGE_MODEL_BYTES

    def free_memory(self, suffix: str = "") -> None:
        """Ends a worker process that held a large PyTorch model; exporters leave copies that nothing frees."""
        if self.large:
            self.pool.end("pytorch", suffix=suffix)


SAMPLES_OF_OWN_CASES = 3
"""How many samples the cases of a task hold (``take_cyclic(samples, 3)``)."""


@dataclass(frozen=True)
class ReferenceOutputs:
    """Outputs of one case on the reference.

    Attributes:
        batch: The case.
        reference: Outputs at the precision under test.
        truth: Outputs in float64.
        decisions: Decisions read off the outputs at the precision under test.
        seconds: Duration of each forward pass of the reference.
        noises: Outputs with every weight perturbed by one rounding, one entry for each draw.
    """

    batch: Batch
    reference: Arrays
    truth: Arrays
    decisions: tuple[Decision, ...]
    seconds: tuple[float, ...]
    noises: tuple[Arrays, ...] = ()


def prepare_context(request: Request, pool: WorkerPool, scratch: Path) -> EvaluationContext:
    """Reads the model's folder and encodes the samples.

    Raises:
        InputError: The model, the task, the precision or a sample cannot be used.
    """
    check_request(request)
    model = ModelFolder(request.model)
    open_checkpoint(model.path)  # says first what is wrong with the weights, if anything is
    task = find_task(request.task) if request.task else infer_task(model)
    return EvaluationContext(
        request=request,
        pool=pool,
        scratch=scratch,
        model=model,
        task=task,
        class_name=pytorch_class(model, task),
        pytorch=resolve_model(model, "pytorch", scratch),
        batches=tuple(_encode_cases(request, model, task)),
    )


def further_cases(task: Task, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
    """Returns cases of the samples beyond those that the task's own cases hold: in batches as large as its case ``batch``.

    Args:
        task: The task.
        model: The model.
        samples: All samples.
    """
    own = task.cases(model, samples[:SAMPLES_OF_OWN_CASES])
    kind = "batch" if any(case.name == "batch" for case in own) else own[0].name
    size = SAMPLES_OF_OWN_CASES if kind == "batch" else 1
    found = []
    for start in range(SAMPLES_OF_OWN_CASES, len(samples), size):
        chunk = samples[start : start + size]
        (case,) = (one for one in task.cases(model, chunk) if one.name == kind)
        numbers = f"{start + 1}-{start + len(chunk)}" if len(chunk) > 1 else str(start + 1)
        found.append(replace(case, name=f"samples {numbers}"))
    return found


def check_request(request: Request) -> None:
    """Checks the names of precision and device.

    Raises:
        InputError: There is no such precision or device.
    """
    _ = request.allowed
    kind, _, index = request.device.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdigit():
        raise InputError("no such device", found=request.device, expected="cpu, cuda or cuda:1")


def _encode_cases(request: Request, model: ModelFolder, task: Task) -> list[Batch]:
    samples = list(request.samples or load_samples(task, model))[: request.max_samples]
    cases = [*task.cases(model, samples), *further_cases(task, model, samples)]
    if request.cases is not None:
        unknown = set(request.cases) - {case.name for case in cases}
        if unknown:
            raise InputError(
                f"the task {task.name} has no case {', '.join(sorted(unknown))}",
                expected=", ".join(case.name for case in cases),
            )
        cases = [case for case in cases if case.name in request.cases]
    return [task.encode(model, case) for case in cases]
