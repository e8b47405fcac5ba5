"""Judges the outputs of a backend against the truth, with the reference's own noise as the measure.

The noise rule: an error is excused if it is a small multiple of the noise. For example, PyTorch in float32 has an rms
error of 1e-7 against float64 on some input (its *noise*), and ONNX Runtime has one of 3e-7. The limit is
``rms_factor`` (8) times the noise, 8e-7, so ONNX Runtime is within noise. With a wrong epsilon in a layer norm its
error is 2e-5, 200 times the noise: diverged, or decision-safe if no decision can have changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.validators.core.activations import log_softmax
from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.core.types import Array, Arrays, Decision, ErrorMetrics
from equipoise.validators.judgement.metrics import (
    NoiseFloor,
    is_identical,
    measure_error,
    noise_floor,
)
from equipoise.validators.judgement.results import (
    HISTOGRAM_EDGES,
    CaseMetrics,
    OutputMetrics,
    Verdict,
)

NO_FINITE_VALUES = "PyTorch itself gives no finite number here: there is nothing to compare with"
"""Equal NaNs prove nothing."""

AUXILIARY_SUFFIXES = ("_gaps", "_scale")
"""Suffixes of arrays that describe an output and are no outputs themselves: the distance to the next candidate of a
beam search, and the scale of the numbers that an output was computed from."""


def judge_output(
    name: str,
    found: Array | None,
    reference: Array,
    truth: Array,
    *,
    valid: Array | None,
    precision: str,
    tolerance: Tolerance,
    decisions: Sequence[Decision] = (),
    scale: float = 0.0,
    noises: Sequence[Array] = (),
) -> OutputMetrics:
    """Returns the metrics of one output and the verdict on it.

    Args:
        name: Name of the output.
        found: The backend's output, or None if it has none of that name.
        reference: PyTorch's output at the precision under test.
        truth: PyTorch's output in float64.
        valid: Mask of the leading entries that are no padding.
        precision: The precision under test.
        tolerance: The tolerance.
        decisions: Decisions that the reference's output leads to.
        scale: Scale of the numbers that the output was computed from, where it is larger than the output's.
        noises: The reference's output with every weight perturbed by one rounding: where the reference is near the
            truth by luck, these are not.
    """
    if found is None:
        return OutputMetrics(name, Verdict.DIVERGED, "the backend has no such output")
    if found.shape != truth.shape:
        text = f"its shape is {found.shape}, the reference's is {truth.shape}"
        return OutputMetrics(name, Verdict.DIVERGED, text)
    values, true_values = _select_valid(found, valid), _select_valid(truth, valid)
    if true_values.size and not np.isfinite(true_values).any():
        return OutputMetrics(name, Verdict.FAILED, NO_FINITE_VALUES)
    error = measure_error(values, true_values, precision=precision)
    noise = measure_error(_select_valid(reference, valid), true_values, precision=precision)
    perturbed = [
        measure_error(_select_valid(one, valid), true_values, precision=precision)
        for one in noises
        if one.shape == truth.shape
    ]
    floor = noise_floor([noise, *perturbed], precision, tolerance, scale)
    holds, margin = _decisions_hold(found, reference, valid, decisions)
    verdict, reason = _apply_tolerance(error, floor, tolerance, decisions_hold=holds)
    if verdict is Verdict.WITHIN_NOISE and is_identical(values, _select_valid(reference, valid)):
        verdict, reason = Verdict.IDENTICAL, ""
    return OutputMetrics(
        name=name,
        verdict=verdict,
        reason=reason,
        error=error,
        noise=noise,
        ratio=error.rms / floor.rms if floor.rms else None,
        floor=floor.rms,
        kl=kl_divergence(values, true_values) if name.endswith("logits") else None,
        margin=margin,
        errors=_histogram(values, true_values),
    )


def kl_divergence(found: Array, truth: Array) -> float:
    """Returns the largest Kullback-Leibler divergence KL(truth || found) over the last axis, in nats.

    >>> kl_divergence(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]))
    0.0
    """
    p, q = log_softmax(truth), log_softmax(found)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0.0)
    return float(np.nan_to_num(terms.sum(axis=-1), nan=np.inf).max(initial=0.0))


def _select_valid(value: Array, valid: Array | None) -> Array:
    """Returns the entries that are no padding."""
    return value if valid is None else np.asarray(value[valid])


def _apply_tolerance(
    error: ErrorMetrics, floor: NoiseFloor, tolerance: Tolerance, *, decisions_hold: bool
) -> tuple[Verdict, str]:
    """Returns the verdict on an error and the reason why it is not better."""
    if error.nonfinite:
        return Verdict.DIVERGED, f"{error.nonfinite} values are NaN or infinite on one side only"
    rms_limit, max_limit = floor.limits(tolerance, error.scale)
    if error.rms <= rms_limit and error.max_abs <= max_limit:
        return Verdict.WITHIN_NOISE, ""
    reason = (
        f"rms error {error.rms:.3g} against noise {floor.rms:.3g} (limit {rms_limit:.3g}), "
        f"largest {error.max_abs:.3g} against {floor.max_abs:.3g} (limit {max_limit:.3g})"
    )
    if decisions_hold and error.relative <= tolerance.ceiling:
        return Verdict.DECISION_SAFE, reason
    return Verdict.DIVERGED, reason


def _decisions_hold(
    found: Array, reference: Array, valid: Array | None, decisions: Sequence[Decision]
) -> tuple[bool, float | None]:
    """Returns whether every decision holds under the error, and the smallest margin.

    Without decisions nothing is known: (False, None).
    """
    if not decisions:
        return False, None
    difference = _absolute_difference(found, reference, valid)
    smallest = min(
        float(np.min(np.asarray(decision.margins), initial=np.inf)) for decision in decisions
    )
    holds = all(decision_holds(decision, difference) for decision in decisions)
    return holds, smallest if np.isfinite(smallest) else None


def _absolute_difference(found: Array, reference: Array, valid: Array | None) -> Array:
    """Returns absolute differences, zero for padding."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - reference.astype(np.float64))
    if valid is not None:
        mask = valid.reshape(valid.shape + (1,) * (difference.ndim - valid.ndim))
        difference = np.where(mask, difference, 0.0)
    return difference


def decision_holds(decision: Decision, difference: Array) -> bool:
    """Checks whether a decision cannot have flipped under these absolute differences of its output."""
    margins = np.asarray(decision.margins, np.float64)
    rows = difference[decision.rows]
    error = rows.max(axis=tuple(range(margins.ndim, rows.ndim)), initial=0.0)
    unsafe = ~(error < margins) & ~(error == 0)
    return bool(unsafe.mean() <= decision.allowance) if unsafe.size else True


def _histogram(found: Array, truth: Array) -> tuple[int, ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.log10(np.abs(found.astype(np.float64) - truth.astype(np.float64)).ravel())
    error = np.clip(error[~np.isnan(error)], HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    counts, _ = np.histogram(error, bins=[*HISTOGRAM_EDGES, HISTOGRAM_EDGES[-1] + 1])
    return tuple(int(count) for count in counts)


def judge_case(
    case: str,
    found: Arrays,
    reference: Arrays,
    truth: Arrays,
    *,
    valid: Mapping[str, Array],
    precision: str,
    tolerance: Tolerance,
    decisions: Sequence[Decision],
    own: Sequence[Decision],
    required: frozenset[str] | None = None,
    noises: Sequence[Arrays] = (),
) -> CaseMetrics:
    """Returns the metrics of one case.

    Args:
        case: Name of the case.
        found: The backend's outputs.
        reference: PyTorch's outputs at the precision under test.
        truth: PyTorch's outputs in float64.
        valid: Masks of the leading entries of outputs that are no padding.
        precision: The precision under test.
        tolerance: The tolerance.
        decisions: Decisions read off the reference's outputs.
        own: Decisions read off the backend's outputs, in the same order.
        required: Outputs that the backend must have; None requires all of the reference's.
        noises: The reference's outputs with its weights perturbed by one rounding.
    """
    metrics = []
    for name, expected in reference.items():
        is_auxiliary = name.endswith(AUXILIARY_SUFFIXES)
        if expected.dtype.kind != "f" or name not in truth or is_auxiliary:
            continue
        if name not in found and required is not None and name not in required:
            continue
        metrics.append(
            judge_output(
                name,
                found.get(name),
                expected,
                truth[name],
                valid=valid.get(name),
                precision=precision,
                tolerance=tolerance,
                decisions=[decision for decision in decisions if decision.output == name],
                scale=float(np.max(reference.get(f"{name}_scale", 0.0))),
                noises=[outputs[name] for outputs in noises if name in outputs],
            )
        )
    flips = _find_flips(decisions, own, found, reference, valid)
    counts = (len(decisions), len(decisions) - len(flips))
    return CaseMetrics(case, tuple(metrics), counts, tuple(flips))


def _find_flips(
    decisions: Sequence[Decision],
    own: Sequence[Decision],
    found: Arrays,
    reference: Arrays,
    valid: Mapping[str, Array],
) -> list[str]:
    """Describes the decisions that differ. A value that is not equal but within its margin (a depth) is no flip."""
    flips = []
    for was, now in zip(decisions, own, strict=False):
        expected, value = reference.get(was.output), found.get(was.output)
        is_near = (
            expected is not None
            and value is not None
            and expected.shape == value.shape
            and decision_holds(was, _absolute_difference(value, expected, valid.get(was.output)))
        )
        if was.value != now.value and not is_near:
            flips.append(f"{was.name}: {was.value} -> {now.value}")
    if len(own) != len(decisions):
        flips.append(f"{len(decisions)} decisions -> {len(own)}")
    return flips
