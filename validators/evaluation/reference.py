"""Runs PyTorch as the reference: in float64 as the truth, and at the precision under test to measure noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.budget import REFERENCE_SHARE
from equipoise.validators.core.types import (
    Arrays,
    Batch,
    CallOption,
    CapturedPass,
    ForwardPass,
    Runner,
)
from equipoise.validators.evaluation.context import (
    REFERENCE_PROCESS,
    EvaluationContext,
    ReferenceOutputs,
)
from equipoise.validators.generation.teacher_forcing import OPTION as TEACHER_FORCING
from equipoise.validators.judgement.metrics import measure_error
from equipoise.validators.runtime.memo import MemoRunner
from equipoise.validators.runtime.recorder import Recorder
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner, capture_last, replay

NOISE_DRAWS = 2
"""The reference is run this often with perturbed weights: a single run may be near the truth by luck."""


@dataclass(frozen=True)
class RecordedPasses:
    """The forward passes of one case.

    Attributes:
        case: Name of the case.
        forward: Inputs of each pass. Of a loop without a cache the passes do not depend on one another.
        reference: Outputs of each pass at the precision under test.
        truth: Outputs of each pass in float64.
    """

    case: str
    forward: tuple[ForwardPass, ...]
    reference: tuple[Arrays, ...]
    truth: tuple[Arrays, ...]


def is_same_function(found: Arrays, expected: Arrays, ceiling: float, precision: str) -> bool:
    """Returns whether all outputs that both have are as near to each other as two precisions of one function are.

    Args:
        found: Outputs at one precision.
        expected: Outputs at another precision.
        ceiling: The largest error, relative to the outputs, both as root mean square.
        precision: The precision of the expected outputs.
    """
    for name in found.keys() & expected.keys():
        ours, theirs = found[name], expected[name]
        if ours.shape != theirs.shape:
            return False
        if (
            ours.dtype.kind == "f"
            and measure_error(ours, theirs, precision=precision).relative > ceiling
        ):
            return False
    return True


def _is_cached_twin(one: Batch, batch: Batch) -> bool:
    """Returns whether a case differs from another only in its use of a cache."""
    return (
        one.case.options == {**batch.case.options, "cache": True}
        and one.arrays.keys() == batch.arrays.keys()
        and all(np.array_equal(value, batch.arrays[name]) for name, value in one.arrays.items())
    )


def _with_teacher_forcing(batch: Batch) -> Batch:
    options = {**batch.case.options, TEACHER_FORCING: True}
    return replace(batch, case=replace(batch.case, options=options))


class ReferenceModels:
    """The float64 model and the model at the precision under test, in one worker process on the CPU.

    Every device is compared with them. A large model is loaded when it is needed and released before the next one.
    """

    def __init__(self, context: EvaluationContext) -> None:
        self.context = context
        self._loaded: dict[str, RemoteRunner] = {}
        self._first = self.reference
        self._hello = context.pool.hello("pytorch", suffix=REFERENCE_PROCESS)
        self._recorded: RecordedPasses | None = None
        self._variants: tuple[tuple[str, int], dict[str, CapturedPass]] = (("", 0), {})
        self._captured: tuple[tuple[str, int], tuple[CapturedPass, CapturedPass]] | None = None

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
            if not self._has_same_weights:
                self._release_large_model()
            self._loaded[precision] = self._load(precision)
        return self._loaded[precision]

    @property
    def _has_same_weights(self) -> bool:
        """Whether the truth, which has float32 weights, and the model at the precision under test hold one copy of them."""
        return self.context.request.precision == "float32"

    def _release_large_model(self) -> None:
        if self.context.large:
            self.context.free_memory(REFERENCE_PROCESS)
            self._loaded.clear()

    def _load(self, precision: str, **more: CallOption) -> RemoteRunner:
        """Loads the model with further options, such as ``jitter``, the seed of a perturbation of its weights.

        Raises:
            InputError: The checkpoint lacks weights.
        """
        context = self.context
        fixed = {"dtype": precision, "device": "cpu", "tf32": False, "share": True}
        options = {**context.request.options(), **fixed, **more}
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
        for batch in self._cached_first(batches):
            if not measured or not budget.is_spent(REFERENCE_SHARE):
                measured.append(self._measure(batch, measured))
        # Every loop follows the tokens of the reference in one pass, and loops with the same tokens share it.
        memo = MemoRunner(self.truth)
        measured = [
            replace(one, truth=self._follow(memo, one, "truth"))
            for one in self._within_budget(measured)
        ]
        self._model(self.context.request.precision)  # holds the weights that are perturbed
        for seed in range(NOISE_DRAWS):
            runner = self._load(self.context.request.precision, jitter=seed)
            memo = MemoRunner(runner)
            measured = [
                replace(one, noises=(*one.noises, self._follow(memo, one, f"noise {seed + 1}")))
                for one in self._within_budget(measured)
            ]
            runner.model.drop()
        self._release_large_model()
        order = [batch.case.name for batch in batches]
        return sorted(measured, key=lambda one: order.index(one.batch.case.name))

    def _cached_first(self, batches: Sequence[Batch]) -> list[Batch]:
        """Returns the cases; of a large model those with a cache come first, for those without one follow their tokens."""
        if not self.context.large:
            return list(batches)
        return sorted(batches, key=lambda batch: not batch.case.options.get("cache"))

    def _within_budget(self, measured: Sequence[ReferenceOutputs]) -> Iterator[ReferenceOutputs]:
        """Yields cases until the budget is spent, the first one always."""
        for index, one in enumerate(measured):
            if index == 0 or not self.context.budget.is_spent():
                yield one

    def _measure(self, batch: Batch, measured: Sequence[ReferenceOutputs]) -> ReferenceOutputs:
        """Runs a case at the precision under test.

        Args:
            batch: The case.
            measured: Cases that were run before. Of a large model a loop without a cache follows the tokens of the same
                loop with one, in one pass instead of one for each token.
        """
        context = self.context
        context.request.progress(f"reference: {batch.case.name}")
        before = len(self.reference.stats.seconds)
        found = self._follow_twin(batch, measured) if context.large else None
        batch, outputs = found or (batch, context.task.run(self.reference, context.model, batch))
        seconds = tuple(self.reference.stats.seconds[before:])
        decisions = tuple(context.task.decisions(context.model, batch, outputs))
        return ReferenceOutputs(batch, outputs, {}, decisions, seconds)

    def _follow_twin(
        self, batch: Batch, measured: Sequence[ReferenceOutputs]
    ) -> tuple[Batch, Arrays] | None:
        """Follows the tokens of the same loop with a cache in one pass; None if there is none, or the pass chooses others.

        Returns the case with teacher forcing, which backends then run in one pass too, and its outputs.
        """
        twin = next((one for one in measured if _is_cached_twin(one.batch, batch)), None)
        if twin is None:
            return None
        outputs = self._force(self.reference, twin, batch)
        if outputs is None or not np.array_equal(outputs["sequences"], twin.reference["sequences"]):
            return None
        return _with_teacher_forcing(batch), outputs

    def _follow(self, runner: Runner, one: ReferenceOutputs, label: str) -> Arrays:
        """Runs a case again; a generation loop takes the tokens that the reference chose, all in one pass.

        Where one pass is far from the reference, the model is not causal, and the loop is run step by step.
        """
        context, batch = self.context, one.batch
        context.request.progress(f"{label}: {batch.case.name}")
        if "sequences" in one.reference:
            outputs = self._force(runner, one, batch)
            if outputs is not None:
                return outputs
        return context.task.run(runner, context.model, batch, follow=one.reference)

    def _force(self, runner: Runner, one: ReferenceOutputs, batch: Batch) -> Arrays | None:
        """Follows the tokens of a case in one pass; returns None where the outputs are not those of the same function."""
        context = self.context
        forced = _with_teacher_forcing(batch)
        outputs = context.task.run(runner, context.model, forced, follow=one.reference)
        allowed, rounding = context.request.allowed, context.request.rounding
        if not is_same_function(outputs, one.reference, allowed.ceiling, rounding):
            return None
        return outputs

    def record(self, one: ReferenceOutputs) -> RecordedPasses:
        """Runs a case again and returns all its forward passes; those of the latest case are kept for the next backend."""
        if self._recorded is None or self._recorded.case != one.batch.case.name:
            recorder = Recorder(self.reference)
            self.context.task.run(recorder, self.context.model, one.batch, follow=one.reference)
            forward = recorder.forward
            truth, _ = replay(self.truth, forward, one.batch.kwargs)
            self._recorded = RecordedPasses(
                one.batch.case.name, tuple(forward), tuple(recorder.outputs), tuple(truth)
            )
        return self._recorded

    def capture(self, one: ReferenceOutputs, index: int) -> tuple[CapturedPass, CapturedPass]:
        """Captures one forward pass of a case on the truth and on the reference; the latest is kept."""
        key = (one.batch.case.name, index)
        if self._captured is None or self._captured[0] != key:
            passes, kwargs = self.record(one).forward[: index + 1], one.batch.kwargs
            truth = capture_last(self.truth, passes, kwargs)
            self._captured = (key, (truth, capture_last(self.reference, passes, kwargs)))
        return self._captured[1]

    def capture_with(
        self, one: ReferenceOutputs, index: int, options: Mapping[str, CallOption]
    ) -> CapturedPass:
        """Captures one forward pass of a case on PyTorch with further options; the latest pass is kept for all options."""
        key = (one.batch.case.name, index)
        if self._variants[0] != key:
            self._variants = (key, {})
        captured, name = self._variants[1], str(sorted(options.items()))
        if name not in captured:
            passes = self.record(one).forward[: index + 1]
            self._model(self.context.request.precision)  # holds the weights
            runner = self._load(self.context.request.precision, **options)
            captured[name] = capture_last(runner, passes, one.batch.kwargs)
            runner.model.drop()
        return captured[name]

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
