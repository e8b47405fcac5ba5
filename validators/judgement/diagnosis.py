"""Compares the modules of a backend with PyTorch's one by one: the error of each, and of what goes into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.validators.core.tolerance import MODULE_TOLERANCE
from equipoise.validators.core.types import Array, Arrays, CapturedPasses, ErrorMetrics
from equipoise.validators.judgement.metrics import measure_error, noise_ratio, within_noise
from equipoise.validators.judgement.module_matching import (
    ModulePair,
    match_axes,
    match_modules,
    matching_outputs,
)
from equipoise.validators.judgement.results import ModuleError

_LARGEST_VALUE = 1e30
"""Values beyond this, infinity and NaN hide positions of attention scores."""


@dataclass(frozen=True)
class ComparedInputs:
    """What is known of the inputs of a module; names are PyTorch's.

    Attributes:
        within: Inputs within noise, with their relative error.
        beyond: Inputs beyond noise, with their relative error.
        unknown: Inputs that the backend has in no form that can be compared.
    """

    within: Mapping[str, float]
    beyond: Mapping[str, float]
    unknown: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether all that is known is within noise; a module without floating-point inputs has no bad ones."""
        return not self.beyond and bool(self.within or not self.unknown)


@dataclass(frozen=True)
class ModuleComparison:
    """The error of one matched module.

    Attributes:
        pair: The module on both sides.
        error: Distance of its output from the truth.
        noise: Distance of the reference's output from the truth.
        ratio: The error over the noise that it is compared with, both as root mean square.
        beyond: Whether the output is beyond noise.
        inputs: What is known of its inputs.
    """

    pair: ModulePair
    error: ErrorMetrics
    noise: ErrorMetrics
    ratio: float | None
    beyond: bool
    inputs: ComparedInputs

    @property
    def path(self) -> str:
        """PyTorch's module path; empty for the whole model."""
        return self.pair.reference.path


@dataclass(frozen=True)
class ArrayComparison:
    """Error and noise of one array, and whether the error is beyond noise."""

    error: ErrorMetrics
    noise: ErrorMetrics
    beyond: bool


@dataclass(frozen=True)
class ArrayComparer:
    """Compares arrays at one precision, without padding.

    Attributes:
        mask: Positions of a padded batch that are no padding; None if there is no padding.
        precision: The precision under test.
    """

    mask: Array | None
    precision: str

    def compare(self, truth: Array, reference: Array, found: Array) -> ArrayComparison:
        """Compares three arrays of one shape."""
        return self._compare_pairs((truth, found), (truth, reference))

    def compare_outputs(
        self, truth: Arrays, reference: Arrays, found: Arrays
    ) -> ArrayComparison | None:
        """Compares the first outputs of a module; None if they do not match.

        Where no output has the same name on both sides, the values decide which of the backend's is meant.
        """
        theirs = matching_outputs(truth, reference)
        named = {} if truth.keys() & found.keys() else found
        pairs = [
            matching_outputs(truth, candidate)
            for candidate in ([{name: value} for name, value in named.items()] or [found])
        ]
        compared = [
            self._compare_pairs(pair, theirs) for pair in pairs if pair is not None and theirs
        ]
        return min(compared, key=lambda one: (one.beyond, one.error.rms), default=None)

    def _compare_pairs(
        self, found: tuple[Array, Array], reference: tuple[Array, Array]
    ) -> ArrayComparison:
        error, noise = self._error(*found), self._error(*reference)
        beyond = not within_noise(error, noise, self.precision, MODULE_TOLERANCE)
        return ArrayComparison(error, noise, beyond)

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
    comparer: ArrayComparer,
) -> list[ModuleComparison]:
    """Returns the error of every module that both sides have, in the order in which the modules ended.

    Args:
        passes: The captured values.
        weights: Names of PyTorch's weights.
        names: Names of the backend's weights -> names of the PyTorch weights that they are made of.
        comparer: Compares two arrays.
    """
    truth = {module.path: module for module in passes.truth.modules}
    reference = [module for module in passes.reference.modules if module.path in truth]
    comparisons = []
    for pair in match_modules(reference, passes.found.modules, weights, names):
        exact = truth[pair.reference.path]
        output = comparer.compare_outputs(exact.outputs, pair.reference.outputs, pair.found.outputs)
        if output is None:
            continue
        ratio = noise_ratio(output.error, output.noise, comparer.precision, MODULE_TOLERANCE)
        inputs = _compare_inputs(exact.inputs, pair, comparer)
        comparisons.append(
            ModuleComparison(pair, output.error, output.noise, ratio, output.beyond, inputs)
        )
    return comparisons


def _compare_inputs(truth: Arrays, pair: ModulePair, comparer: ArrayComparer) -> ComparedInputs:
    """Compares each input of PyTorch's module with those of the backend's.

    Names and positions differ between frameworks, so that values decide: an input is within noise if the backend's
    module takes anything that is. If it takes nothing of that shape, nothing is known.
    """
    within: dict[str, float] = {}
    beyond: dict[str, float] = {}
    unknown = []
    for name, exact in truth.items():
        reference = pair.reference.inputs.get(name)
        if reference is None or reference.shape != exact.shape or _is_mask(exact):
            continue
        compared = [
            comparer.compare(exact, reference, candidate)
            for value in pair.found.inputs.values()
            if (candidate := match_axes(exact, value)) is not None
        ]
        best = min(compared, key=lambda one: (one.beyond, one.error.rms), default=None)
        if best is None:
            unknown.append(name)
        else:
            (beyond if best.beyond else within)[name] = best.error.relative
    return ComparedInputs(within, beyond, tuple(unknown))


def _is_mask(values: Array) -> bool:
    """Checks whether values are a mask that is added to scores, or a single number: each framework has its own."""
    return values.size < 2 or not values.any() or not np.all(np.abs(values) < _LARGEST_VALUE)


def error_by_depth(comparisons: Sequence[ModuleComparison]) -> tuple[ModuleError, ...]:
    """Returns the error of every module in order."""
    return tuple(
        ModuleError(one.path, one.error.relative, one.noise.relative, one.ratio, one.beyond)
        for one in comparisons
    )


def choose_pass(
    truth: Sequence[Arrays],
    reference: Sequence[Arrays],
    found: Sequence[Arrays],
    comparers: Sequence[ArrayComparer],
) -> int:
    """Returns the position of the first forward pass of a loop that is beyond noise; if none is, of the worst.

    Args:
        truth: Outputs of each pass in float64.
        reference: Outputs at the precision under test.
        found: Outputs of the backend for the same inputs.
        comparers: Compares arrays of each pass.
    """
    ratios = []
    for index, comparer in enumerate(comparers):
        compared = compare_outputs(truth[index], reference[index], found[index], comparer)
        if any(one.beyond for one in compared.values()):
            return index
        values = [
            noise_ratio(one.error, one.noise, comparer.precision, MODULE_TOLERANCE) or 0.0
            for one in compared.values()
        ]
        ratios.append(max(values, default=0.0))
    return int(np.argmax(ratios))


def compare_outputs(
    truth: Arrays, reference: Arrays, found: Arrays, comparer: ArrayComparer
) -> dict[str, ArrayComparison]:
    """Compares the outputs of one forward pass that all three have in one shape, by name."""
    return {
        name: comparer.compare(exact, reference[name], found[name])
        for name, exact in truth.items()
        if name in reference
        and name in found
        and exact.shape == reference[name].shape == found[name].shape
    }
