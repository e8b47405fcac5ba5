"""Compares the modules of a backend with PyTorch's one by one and finds the first one beyond noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.validators.core.tolerance import MODULE_TOLERANCE
from equipoise.validators.core.types import (
    Array,
    Arrays,
    CapturedModule,
    CapturedPasses,
    ErrorMetrics,
)
from equipoise.validators.judgement.metrics import measure_error
from equipoise.validators.judgement.module_matching import (
    ModulePair,
    match_modules,
    matching_outputs,
)
from equipoise.validators.judgement.results import Divergence, ModuleError
from equipoise.validators.judgement.verdict import within_noise


@dataclass(frozen=True)
class ModuleComparison:
    """The error of one matched module.

    Attributes:
        pair: The module on both sides.
        error: Distance of its output from the truth.
        noise: Distance of the reference's output from the truth.
        beyond: Whether the output is beyond noise.
        input_beyond: Whether its first input is beyond noise; False where inputs are not known.
    """

    pair: ModulePair
    error: ErrorMetrics
    noise: ErrorMetrics
    beyond: bool
    input_beyond: bool


@dataclass(frozen=True)
class _Comparer:
    """Compares captured arrays at one precision, without padding."""

    mask: Array | None
    precision: str

    def compare(
        self, truth: Arrays, reference: Arrays, found: Arrays
    ) -> tuple[ErrorMetrics, ErrorMetrics, bool] | None:
        """Returns error, noise, and whether the error is beyond noise; None if the arrays do not match."""
        ours, theirs = matching_outputs(truth, found), matching_outputs(truth, reference)
        if ours is None or theirs is None:
            return None
        error, noise = self._error(*ours), self._error(*theirs)
        return error, noise, not within_noise(error, noise, self.precision, MODULE_TOLERANCE)

    def _error(self, truth: Array, found: Array) -> ErrorMetrics:
        return measure_error(
            self._without_padding(found), self._without_padding(truth), precision=self.precision
        )

    def _without_padding(self, values: Array) -> Array:
        if self.mask is None or values.shape[: self.mask.ndim] != self.mask.shape:
            return values
        return np.asarray(values[self.mask])


def compare_modules(
    passes: CapturedPasses,
    weights: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
    *,
    mask: Array | None,
    precision: str,
) -> list[ModuleComparison]:
    """Returns the error of every module that both sides have, in the order in which the modules ended.

    Args:
        passes: The captured values.
        weights: Names of PyTorch's weights.
        names: Names of the backend's weights -> names of the PyTorch weights that they are made of.
        mask: Positions of a padded batch that are no padding.
        precision: The precision under test.
    """
    comparer = _Comparer(mask, precision)
    truth = {module.path: module for module in passes.truth}
    reference = [module for module in passes.reference if module.path in truth]
    comparisons = []
    for pair in match_modules(reference, passes.found, weights, names):
        exact = truth[pair.reference.path]
        output = comparer.compare(exact.outputs, pair.reference.outputs, pair.found.outputs)
        if output is None:
            continue
        error, noise, beyond = output
        if beyond and _ends_where_parent_ends(pair, passes, truth, comparer):
            continue
        inputs = comparer.compare(exact.inputs, pair.reference.inputs, pair.found.inputs)
        input_beyond = inputs is not None and inputs[2]
        comparisons.append(ModuleComparison(pair, error, noise, beyond, input_beyond))
    return comparisons


def _ends_where_parent_ends(
    pair: ModulePair,
    passes: CapturedPasses,
    truth: Mapping[str, CapturedModule],
    comparer: _Comparer,
) -> bool:
    """Checks whether the backend's module computes what the parent of PyTorch's computes.

    A dense layer of Keras includes its activation, which PyTorch applies in the module around the layer.
    """
    parent = pair.reference.path.rpartition(".")[0]
    for module in passes.reference:
        if module.path and module.path == parent:
            exact = truth[module.path].outputs
            output = comparer.compare(exact, module.outputs, pair.found.outputs)
            return output is not None and not output[2]
    return False


def error_by_depth(comparisons: Sequence[ModuleComparison]) -> tuple[ModuleError, ...]:
    """Returns the error of every module in order."""
    return tuple(
        ModuleError(one.pair.reference.path, one.error.relative, one.noise.relative)
        for one in comparisons
    )


def first_divergence(comparisons: Sequence[ModuleComparison], case: str) -> Divergence | None:
    """Returns the first module beyond noise; None if there is none.

    A module whose inputs are beyond noise is not at fault even if every module before it is fine: something between
    the two is, which belongs to the module around them.
    """
    for index, comparison in enumerate(comparisons):
        if comparison.beyond:
            return _describe_divergence(comparisons, index, case)
    return None


def _describe_divergence(
    comparisons: Sequence[ModuleComparison], index: int, case: str
) -> Divergence:
    flagged = comparisons[index]
    by_path = {one.pair.reference.path: one for one in comparisons}
    comparison, inner = flagged, ""
    while (
        comparison.input_beyond
        and (path := comparison.pair.reference.path.rpartition(".")[0]) in by_path
    ):
        comparison, inner = by_path[path], flagged.pair.reference.path
    reference = comparison.pair.reference
    inputs = [one for one in comparisons[:index] if _is_input_of(one.pair.reference, reference)]
    note = "" if inputs else _describe_last_good(comparisons, index)
    if inner:
        note = f"what goes into its part {inner} is beyond noise already, no part before it is"
    return Divergence(
        case=case,
        module=reference.path or "(the whole model)",
        kind=reference.kind,
        there=comparison.pair.found.path,
        error=comparison.error.relative,
        noise=comparison.noise.relative,
        inputs={one.pair.reference.path: one.error.relative for one in inputs},
        note=note,
    )


def _describe_last_good(comparisons: Sequence[ModuleComparison], index: int) -> str:
    if index == 0:
        return "no module before it could be compared"
    last = comparisons[index - 1].pair.reference.path
    return f"the last module within noise before it is {last}"


def _is_input_of(giver: CapturedModule, taker: CapturedModule) -> bool:
    """Checks whether an output of one module is an input of another: the same values."""
    return any(
        output.shape == value.shape and output.size > 1 and np.array_equal(output, value)
        for output in giver.outputs.values()
        for value in taker.inputs.values()
    )
