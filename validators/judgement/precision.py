"""Tells the error of a lower precision from a fault: float32 that was declared, bfloat16 that was computed.

A float32 program that rounds to bfloat16, float16 or TensorFloat-32 on its way has the errors of that precision. Their
size proves nothing, since a fault may have it by chance. But rounding the same numbers gives the same errors: where the
error begins, it points in the direction of PyTorch's own at that precision. For example, the errors of the first matrix
product in TensorFloat-32 on two frameworks have a cosine of 0.99 over its thousand values; those of a wrong epsilon and
of TensorFloat-32 have one of 0.05.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from equipoise.validators.core.precision import TF32
from equipoise.validators.core.types import CallOption, CapturedPass, CapturedPasses
from equipoise.validators.judgement.diagnosis import (
    ArrayComparer,
    ModuleComparison,
    compare_outputs,
)
from equipoise.validators.judgement.metrics import unit_roundoff
from equipoise.validators.judgement.results import ComputedPrecision

MAX_SIZE_FACTOR = 4.0
"""How much larger or smaller than PyTorch's at that precision the error of the program as a whole may be."""

MIN_COSINE = 0.3
"""Smallest cosine of the two errors: a program may round one of two factors, or the products and not the factors."""

MIN_DEVIATIONS = 5.0
"""The same in standard deviations of the cosine of independent errors, one over the root of their number."""

MAX_COSINE_GAP = 0.2
"""float16 and TensorFloat-32 keep the same bits of a fraction: with a smaller difference of their cosines both are named."""

MIN_MODULE_VALUES = 64
"""So many values of one module differ in one direction by chance in no case."""

MIN_OUTPUT_VALUES = 1000
"""The same for outputs of the whole model, whose errors are few directions deep: a handful of sums over all layers."""

MAX_ROUNDINGS = 32.0
"""Largest error of the first module beyond noise, in roundings of the lower precision; the smallest is an eighth."""


@dataclass(frozen=True)
class LowerPrecision:
    """A way to compute a float32 model at a lower precision.

    Attributes:
        name: Its name in reports.
        rounding: The precision that determines the size of one rounding.
        options: Options with which PyTorch computes in this way.
    """

    name: str
    rounding: str
    options: Mapping[str, CallOption] = field(default_factory=dict)


LOWER_PRECISIONS = (
    LowerPrecision("bfloat16", "bfloat16", {"dtype": "bfloat16"}),
    LowerPrecision("bfloat16", "bfloat16", {"factors": "bfloat16"}),
    LowerPrecision("bfloat16", "bfloat16", {"autocast": "bfloat16"}),
    LowerPrecision("float16", "float16", {"dtype": "float16"}),
    LowerPrecision("float16", "float16", {"autocast": "float16"}),
    LowerPrecision("TensorFloat-32", TF32, {"factors": TF32}),
)
"""Everything in bfloat16 or float16, matrix products alone (autocast), or their factors alone (tensor cores)."""


_EXACTNESS = ("bfloat16", "float16", "float32", "float64")
"""Precisions that programs declare, from the least exact on."""


def precision_note(declared: str, tested: str) -> tuple[str, ...]:
    """Returns a note if a program declares another precision than the one that it is held to.

    >>> precision_note("float32", "float16")
    ('it computes in float32, which is more exact than the float16 it is held to: a small ratio says little',)
    >>> precision_note("float32", "float32")
    ()
    """
    if declared == tested or not {declared, tested} <= set(_EXACTNESS):
        return ()
    if _EXACTNESS.index(declared) > _EXACTNESS.index(tested):
        text = f"which is more exact than the {tested} it is held to: a small ratio says little"
    else:
        text = f"which is less exact than the {tested} it is held to: --precision chooses another"
    return (f"it computes in {declared}, {text}",)


def find_precision(
    declared: str,
    passes: CapturedPasses,
    comparisons: Sequence[ModuleComparison],
    comparer: ArrayComparer,
    capture: Callable[[LowerPrecision], CapturedPass],
) -> ComputedPrecision | None:
    """Returns the lower precision whose error a program has, the nearest one; None if its error is another one.

    Args:
        declared: The precision that the program declares.
        passes: One forward pass on all sides; the program's without modules if these cannot be captured.
        comparisons: Modules of the program in the order in which they ended.
        comparer: Compares arrays of this pass.
        capture: Captures the same pass of PyTorch at a lower precision.
    """
    findings = []
    for lower in _plausible_precisions(passes, comparisons, comparer):
        rounded = capture(lower)
        if comparisons:
            errors = _module_errors(passes, rounded, comparisons, comparer)
        else:
            errors = _output_errors(passes, rounded, comparer)
        if errors and all(one.expected for one in errors):
            size = median(one.found / one.expected for one in errors)
            if 1 / MAX_SIZE_FACTOR <= size <= MAX_SIZE_FACTOR:
                found = ComputedPrecision(declared, lower.name, size, errors[0].cosine)
                findings.append((found, errors[0].count))
    best, count = max(findings, key=lambda one: one[0].cosine, default=(None, 0))
    if best is None or best.cosine < max(MIN_COSINE, MIN_DEVIATIONS / count**0.5):
        return None
    near = [one.computed for one, _ in findings if one.cosine >= best.cosine - MAX_COSINE_GAP]
    return replace(best, computed=" or ".join(dict.fromkeys(near)))


def _plausible_precisions(
    passes: CapturedPasses, comparisons: Sequence[ModuleComparison], comparer: ArrayComparer
) -> list[LowerPrecision]:
    """Returns the lower precisions whose roundings are about as large as the first error beyond noise."""
    error = next((one.error.relative for one in comparisons if one.beyond), None)
    if error is None:
        sides = (passes.truth.outputs, passes.reference.outputs, passes.found.outputs)
        outputs = compare_outputs(*sides, comparer).values()
        error = max((one.error.relative for one in outputs), default=0.0)
    return [
        one
        for one in LOWER_PRECISIONS
        if 1 / 8 <= error / unit_roundoff(one.rounding) <= MAX_ROUNDINGS
    ]


@dataclass(frozen=True)
class _Errors:
    """Errors of one array, as root mean square.

    Attributes:
        found: Distance of the program from the truth.
        expected: Distance of PyTorch at the lower precision from the truth.
        left: Distance of the program from PyTorch at the lower precision.
        count: Number of values.
    """

    found: float
    expected: float
    left: float
    count: int

    @property
    def cosine(self) -> float:
        """Cosine of the two errors, by the law of cosines."""
        product = 2 * self.found * self.expected
        return (self.found**2 + self.expected**2 - self.left**2) / product


def _module_errors(
    passes: CapturedPasses,
    rounded: CapturedPass,
    comparisons: Sequence[ModuleComparison],
    comparer: ArrayComparer,
) -> list[_Errors]:
    """Returns the errors of the modules beyond noise in order.

    None if the first of them has few values, or if PyTorch's error at the lower precision begins before it: then it is
    one place of the program that rounds, and not the whole of it.
    """
    truth = {module.path: module for module in passes.truth.modules}
    at_lower = {module.path: module for module in rounded.modules}
    beyond = [one for one in comparisons if one.beyond and one.path in at_lower]
    if not beyond or beyond[0].error.count < MIN_MODULE_VALUES:
        return []
    reference = {module.path: module for module in passes.reference.modules}
    for one in comparisons[: comparisons.index(beyond[0])]:
        if one.path in at_lower:
            sides = (truth[one.path], reference[one.path], at_lower[one.path])
            compared = comparer.compare_outputs(*(module.outputs for module in sides))
            if compared is not None and compared.beyond:
                return []
    found = []
    for one in beyond:
        lower = at_lower[one.path].outputs
        compared = comparer.compare_outputs(lower, truth[one.path].outputs, one.pair.found.outputs)
        if compared is not None:
            error = compared.error
            found.append(_Errors(one.error.rms, compared.noise.rms, error.rms, error.count))
    return found


def _output_errors(
    passes: CapturedPasses, rounded: CapturedPass, comparer: ArrayComparer
) -> list[_Errors]:
    """Returns the errors of those outputs of the model that have many values."""
    truth, found = passes.truth.outputs, passes.found.outputs
    errors = compare_outputs(truth, passes.reference.outputs, found, comparer)
    against = compare_outputs(rounded.outputs, truth, found, comparer)
    return [
        _Errors(errors[name].error.rms, one.noise.rms, one.error.rms, one.error.count)
        for name, one in against.items()
        if name in errors and errors[name].beyond and one.error.count >= MIN_OUTPUT_VALUES
    ]
