"""Prepares an evaluation before anything runs: the model, its task, and every case as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean
from equipoise.exporters.artifact import find_manifest
from equipoise.exporters.sentence.modules import WITH_MODULES, read_sentence_modules
from equipoise.validators.core.budget import Budget
from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Arrays, Batch, Decision
from equipoise.validators.evaluation.further_cases import all_cases
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
        budget: The time that the validation may take.
    """

    request: Request
    pool: WorkerPool
    scratch: Path
    model: ModelFolder
    task: Task
    class_name: str
    pytorch: ModelSource
    batches: tuple[Batch, ...]
    budget: Budget

    @property
    def large(self) -> bool:
        """Whether only one copy of the model may be in memory at a time."""
        return self.model.weight_bytes >= LARGE_MODEL_BYTES

    def free_memory(self, suffix: str = "") -> None:
        """Ends a worker process that held a large PyTorch model; exporters leave copies that nothing frees."""
        if self.large:
            self.pool.end("pytorch", suffix=suffix)


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


def prepare_context(
    request: Request, pool: WorkerPool, scratch: Path, *, processes: Sequence[str] = ()
) -> EvaluationContext:
    """Reads the model's folder and encodes the samples.

    Args:
        request: What to validate, and how.
        pool: The worker processes.
        scratch: A folder for temporary files.
        processes: Suffixes of the processes of PyTorch that are started here: they import it while the samples are encoded.

    Raises:
        InputError: The model, the task, the precision or a sample cannot be used.
    """
    check_request(request)
    budget = Budget(request.budget)
    model = ModelFolder(request.model)
    open_checkpoint(model.path)  # says first what is wrong with the weights, if anything is
    # Only one process may hold a large model at a time.
    for suffix in processes if model.weight_bytes < LARGE_MODEL_BYTES else processes[:1]:
        pool.preload("pytorch", model.class_name, suffix=suffix)
    modules = read_sentence_modules(model.path) if _wants_sentence(request) else []
    name = request.task or ("feature-extraction" if modules else None)
    task = find_task(name) if name else infer_task(model)
    is_sentence = bool(modules) and task.name == "feature-extraction"
    return EvaluationContext(
        request=request,
        pool=pool,
        scratch=scratch,
        model=model,
        task=task,
        class_name=pytorch_class(model, task) + WITH_MODULES * is_sentence,
        pytorch=resolve_model(model, "pytorch", scratch),
        batches=tuple(budget.order(_encode_cases(request, model, task))),
        budget=budget,
    )


def _wants_sentence(request: Request) -> bool:
    """Whether the request, or one of its artifacts, is about a sentence's embedding."""
    settings = [find_manifest(path).get("settings") or {} for path in request.artifacts]
    return request.sentence or any(one.get("graph") == "sentence" for one in settings)


def every_batch(context: EvaluationContext) -> tuple[Batch, ...]:
    """Returns all cases of the task as arrays, also those that the request leaves out."""
    if context.request.cases is None:
        return context.batches
    request = replace(context.request, cases=None)
    return tuple(_encode_cases(request, context.model, context.task))


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
    cases = all_cases(task, model, samples)
    if request.cases is not None:
        unknown = set(request.cases) - {case.name for case in cases}
        if unknown:
            names = [case.name for case in cases]
            raise InputError(
                f"the task {task.name} has no case {', '.join(sorted(unknown))}",
                expected=", ".join(names),
                hint=did_you_mean(min(unknown), names),
            )
        cases = [case for case in cases if case.name in request.cases]
    return [task.encode(model, case) for case in cases]
