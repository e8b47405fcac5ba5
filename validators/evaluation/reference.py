"""Runs PyTorch as the reference: in float64 as the truth, and at the precision under test to measure noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.budget import REFERENCE_SHARE
from equipoise.validators.core.types import Arrays, Batch, CapturedModule
from equipoise.validators.evaluation.context import (
    REFERENCE_PROCESS,
    EvaluationContext,
    ReferenceOutputs,
)
from equipoise.validators.generation.teacher_forcing import OPTION as TEACHER_FORCING
from equipoise.validators.runtime.recorder import Recorder
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner, capture_modules

NOISE_DRAWS = 2
"""The reference is run this often with perturbed weights: a single run may be near the truth by luck."""


@dataclass(frozen=True)
class ModuleCaptures:
    """Values of every module on one case.

    Attributes:
        case: Name of the case.
        probes: Inputs of the forward passes that were captured.
        truth: Values of every module in float64.
        reference: Values of every module at the precision under test.
    """

    case: str
    probes: Sequence[Arrays]
    truth: Sequence[CapturedModule]
    reference: Sequence[CapturedModule]


def is_same_function(found: Arrays, expected: Arrays, ceiling: float) -> bool:
    """Returns whether all outputs that both have are as near to each other as two precisions of one function are.

    Args:
        found: Outputs at one precision.
        expected: Outputs at another precision.
        ceiling: The largest error, relative to the outputs, both as root mean square.
    """
    for name in found.keys() & expected.keys():
        ours, theirs = found[name], expected[name]
        if ours.shape != theirs.shape:
            return False
        if ours.dtype.kind == "f" and ours.size:
            difference = np.nan_to_num(ours.astype(np.float64) - theirs, nan=0.0)
            scale = np.nan_to_num(theirs.astype(np.float64), nan=0.0)
            if np.mean(difference**2) > ceiling**2 * np.mean(scale**2):
                return False
    return True


class ReferenceModels:
    """The float64 model and the model at the precision under test, in one worker process on the CPU.

    Every device is compared with them. A large model is loaded when it is needed and released before the next one.
    """

    def __init__(self, context: EvaluationContext) -> None:
        self.context = context
        self._loaded: dict[str, RemoteRunner] = {}
        self._first = self.reference
        self._hello = context.pool.hello("pytorch", suffix=REFERENCE_PROCESS)
        self._captures: ModuleCaptures | None = None

    @property
    def reference(self) -> RemoteRunner:
        """The model at the precision under test."""
        return self._model(self.context.request.precision)

    @property
    def truth(self) -> RemoteRunner:
        """The model in float64."""
        return self._model("float64")

    def _model(self, precision: str) -> RemoteRunner:
        if precision not in self._loaded:
            self._release_large_model()
            self._loaded[precision] = self._load(precision)
        return self._loaded[precision]

    def _release_large_model(self) -> None:
        if self.context.large:
            self.context.free_memory(REFERENCE_PROCESS)
            self._loaded.clear()

    def _load(self, precision: str, jitter: int | None = None) -> RemoteRunner:
        """Loads the model; ``jitter`` is the seed of a perturbation of its weights.

        Raises:
            InputError: The checkpoint lacks weights.
        """
        context = self.context
        options = {**context.request.options(), "dtype": precision, "device": "cpu", "tf32": False}
        if jitter is not None:
            options["jitter"] = jitter
        worker = context.pool.get("pytorch", suffix=REFERENCE_PROCESS)
        source = context.pytorch
        model = RemoteModel(worker, "pytorch", context.class_name, source.path, **options)
        if missing := model.info.get("missing_keys"):
            raise InputError(
                f"PyTorch finds no values for {len(missing)} parameters, which would be random",
                file=source.path,
                tensor=missing[0],
                hint="is it another class's checkpoint? `equipoise inspect` shows what it holds",
            )
        return RemoteRunner(model)

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the model accepts."""
        return self._first.accepts

    def measure(self, batches: Sequence[Batch]) -> list[ReferenceOutputs]:
        """Runs every case on both models, and on the reference with perturbed weights; fewer if the budget is spent."""
        budget, measured = self.context.budget, list[ReferenceOutputs]()
        for batch in batches:
            if not measured or not budget.is_spent(REFERENCE_SHARE):
                measured.append(self._measure(batch))
        measured = [
            replace(one, truth=self._follow(self.truth, one, "truth"))
            for one in self._within_budget(measured)
        ]
        for seed in range(NOISE_DRAWS):
            self._release_large_model()
            runner = self._load(self.context.request.precision, jitter=seed)
            measured = [
                replace(one, noises=(*one.noises, self._follow(runner, one, f"noise {seed + 1}")))
                for one in self._within_budget(measured)
            ]
            runner.model.drop()
        self._release_large_model()
        return measured

    def _within_budget(self, measured: Sequence[ReferenceOutputs]) -> Iterator[ReferenceOutputs]:
        """Yields cases until the budget is spent, the first one always."""
        for index, one in enumerate(measured):
            if index == 0 or not self.context.budget.is_spent():
                yield one

    def _measure(self, batch: Batch) -> ReferenceOutputs:
        """Runs a case at the precision under test."""
        context = self.context
        context.request.progress(f"reference: {batch.case.name}")
        before = len(self.reference.stats.seconds)
        outputs = context.task.run(self.reference, context.model, batch)
        seconds = tuple(self.reference.stats.seconds[before:])
        decisions = tuple(context.task.decisions(context.model, batch, outputs))
        return ReferenceOutputs(batch, outputs, {}, decisions, seconds)

    def _follow(self, runner: RemoteRunner, one: ReferenceOutputs, label: str) -> Arrays:
        """Runs a case again; a generation loop takes the tokens that the reference chose, all in one pass.

        Where one pass is far from the reference, the model is not causal, and the loop is run step by step.
        """
        context, batch = self.context, one.batch
        context.request.progress(f"{label}: {batch.case.name}")
        if "sequences" not in one.reference:
            return context.task.run(runner, context.model, batch, follow=one.reference)
        options = {**batch.case.options, TEACHER_FORCING: True}
        forced = replace(batch, case=replace(batch.case, options=options))
        outputs = context.task.run(runner, context.model, forced, follow=one.reference)
        if is_same_function(outputs, one.reference, context.request.allowed.ceiling):
            return outputs
        return context.task.run(runner, context.model, batch, follow=one.reference)

    def captures(self, one: ReferenceOutputs) -> ModuleCaptures:
        """Captures every module of both models; the latest case is kept for the next backend."""
        if self._captures is None or self._captures.case != one.batch.case.name:
            probes, kwargs = self._probes(one), one.batch.kwargs
            self._captures = ModuleCaptures(
                case=one.batch.case.name,
                probes=probes,
                truth=capture_modules(self.truth, probes, kwargs),
                reference=capture_modules(self.reference, probes, kwargs),
            )
        return self._captures

    def _probes(self, one: ReferenceOutputs) -> Sequence[Arrays]:
        """Returns the inputs of passes to capture: the last one of a loop, or the first two with a cache."""
        recorder = Recorder(self.reference)
        self.context.task.run(recorder, self.context.model, one.batch, follow=one.reference)
        return recorder.steps[:2] or recorder.passes[-1:]

    @cached_property
    def weights(self) -> list[str]:
        """Names of PyTorch's weights."""
        return list(self.reference.model.names())

    @cached_property
    def renamed(self) -> dict[str, str]:
        """Names of weights in the file -> their names in the model, where the two differ."""
        return self.reference.model.renamed()

    def describe(self) -> tuple[RemoteRunner, Mapping[str, Any]]:
        """Returns the model at the precision under test, and the versions in its process."""
        return self._first, self._hello

    def close(self) -> None:
        """Releases the models if their process still runs."""
        for runner in self._loaded.values():
            if runner.model.worker.alive:
                runner.model.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.close()
