"""The verdict on a backend's outputs: against the truth, by the reference's own noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.judgement.metrics import (
    Distance,
    distance,
    epsilon,
    identical,
    kl_divergence,
)
from equipoise.validators.tasks.base import Decision


class Verdict(Enum):
    """What can be said of a backend, best first."""

    IDENTICAL = "identical"
    WITHIN_NOISE = "within noise"
    DECISION_SAFE = "decision-safe"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def rank(self) -> int:
        """0 is the best."""
        return list(Verdict).index(self)


FINE = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
"""What an artifact at one precision has no cause to fall short of."""


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several things together; none at all is a failure."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.FAILED)


@dataclass(frozen=True)
class OutputFigures:
    """One output of one case.

    Attributes:
        name: The output.
        verdict: On this output alone.
        reason: Why it is no better.
        error: Distance of the backend from the truth.
        noise: Distance of the reference from the truth.
        ratio: ``error.rms`` over the noise it was held to.
        kl: Kullback-Leibler divergence from the truth, for logits.
        margin: The smallest margin of the decisions read off this output.
        errors: Histogram of log10 of absolute errors, see :data:`BINS`.
    """

    name: str
    verdict: Verdict
    reason: str
    error: Distance | None = None
    noise: Distance | None = None
    ratio: float | None = None
    kl: float | None = None
    margin: float | None = None
    errors: tuple[int, ...] = ()


BINS = tuple(range(-12, 5))
"""Edges of the error histogram, as powers of ten; what is smaller falls into the first bin."""


NOTHING = "PyTorch itself gives no finite number here: there is nothing to compare with"
"""Where all is NaN, equal it may be, but it proves nothing."""

ABOUT = ("_gaps", "_scale")
"""Endings of arrays that say something of an output and are none: how near another choice was, and the scale
of the numbers that it was computed from."""


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
) -> OutputFigures:
    """The figures of one output and the verdict on it.

    Args:
        name: Its name.
        found: What the backend gave, or None.
        reference: What PyTorch gave at the precision under test.
        truth: What PyTorch gave in float64.
        valid: Which leading entries mean something.
        precision: The precision under test.
        tolerance: What is allowed.
        decisions: Those that the reference's value leads to.
        scale: Of the numbers that it was computed from, where they were larger than the output.
        noises: The reference again, with every weight moved by one rounding: where it was near the truth by
            luck, these are not.
    """
    if found is None:
        return OutputFigures(name, Verdict.DIVERGED, "the backend has no such output")
    if found.shape != truth.shape:
        text = f"its shape is {found.shape}, the reference's is {truth.shape}"
        return OutputFigures(name, Verdict.DIVERGED, text)

    mine, true = _picked(found, valid), _picked(truth, valid)
    if true.size and not np.isfinite(true).any():
        return OutputFigures(name, Verdict.FAILED, NOTHING)
    error = distance(mine, true, precision=precision)
    noise = distance(_picked(reference, valid), true, precision=precision)
    every = [noise] + [
        distance(_picked(one, valid), true, precision=precision)
        for one in noises
        if one.shape == truth.shape
    ]
    held = _held(every, precision, tolerance, scale)
    safe, margin = _stand(found, reference, valid, decisions)
    verdict, reason = _verdict(error, held, tolerance, safe=safe)
    if verdict is Verdict.WITHIN_NOISE and identical(mine, _picked(reference, valid)):
        verdict, reason = Verdict.IDENTICAL, ""
    return OutputFigures(
        name=name,
        verdict=verdict,
        reason=reason,
        error=error,
        noise=noise,
        ratio=error.rms / held[0] if held[0] else None,
        kl=kl_divergence(mine, true) if name.endswith("logits") else None,
        margin=margin,
        errors=_histogram(mine, true),
    )


def _picked(value: Array, valid: Array | None) -> Array:
    """The entries that mean something."""
    return value if valid is None else np.asarray(value[valid])


def within_noise(error: Distance, noise: Distance, precision: str, tolerance: Tolerance) -> bool:
    """Whether an error is what the reference's own noise explains."""
    held = _held([noise], precision, tolerance)
    verdict, _ = _verdict(error, held, tolerance, safe=False)
    return verdict is Verdict.WITHIN_NOISE


def _held(
    noises: Sequence[Distance], precision: str, tolerance: Tolerance, scale: float = 0.0
) -> tuple[float, float]:
    """What errors are held to, as rms and as maximum."""
    rounding = tolerance.floor * epsilon(precision) * max(noises[0].scale, scale)
    rms = max(noise.rms for noise in noises)
    return max(rms, rounding), max(*(noise.max_abs for noise in noises), 2 * rounding)


def _verdict(
    error: Distance, held: tuple[float, float], tolerance: Tolerance, *, safe: bool
) -> tuple[Verdict, str]:
    allowed = tolerance.atol + tolerance.rtol * error.scale
    if error.nonfinite:
        return Verdict.DIVERGED, f"{error.nonfinite} values are NaN or infinite on one side only"
    rms_limit = max(tolerance.rms_factor * held[0], allowed)
    max_limit = max(tolerance.max_factor * held[1], allowed)
    if error.rms <= rms_limit and error.max_abs <= max_limit:
        return Verdict.WITHIN_NOISE, ""
    reason = (
        f"rms error {error.rms:.3g} against noise {held[0]:.3g} (limit {rms_limit:.3g}), "
        f"largest {error.max_abs:.3g} against {held[1]:.3g} (limit {max_limit:.3g})"
    )
    if safe and error.relative <= tolerance.ceiling:
        return Verdict.DECISION_SAFE, reason
    return Verdict.DIVERGED, reason


def _stand(
    found: Array, reference: Array, valid: Array | None, decisions: Sequence[Decision]
) -> tuple[bool, float | None]:
    """Whether every decision stands with the error there is, and the smallest margin; none: not known."""
    if not decisions:
        return False, None
    off = _off(found, reference, valid)
    smallest = min(
        float(np.min(np.asarray(decision.margins), initial=np.inf)) for decision in decisions
    )
    safe = all(stands(decision, off) for decision in decisions)
    return safe, smallest if np.isfinite(smallest) else None


def _off(found: Array, reference: Array, valid: Array | None) -> Array:
    """Absolute differences; none where entries mean nothing."""
    with np.errstate(invalid="ignore"):
        off = np.abs(found.astype(np.float64) - reference.astype(np.float64))
    if valid is not None:
        off = np.where(valid.reshape(valid.shape + (1,) * (off.ndim - valid.ndim)), off, 0.0)
    return off


def stands(decision: Decision, off: Array) -> bool:
    """Whether a decision cannot have flipped by these absolute differences of its output."""
    margins = np.asarray(decision.margins, np.float64)
    rows = off[decision.rows]
    error = rows.max(axis=tuple(range(margins.ndim, rows.ndim)), initial=0.0)
    unsafe = ~(error < margins) & ~(error == 0)
    return bool(unsafe.mean() <= decision.allowance) if unsafe.size else True


def _histogram(found: Array, truth: Array) -> tuple[int, ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.log10(np.abs(found.astype(np.float64) - truth.astype(np.float64)).ravel())
    error = np.clip(error[~np.isnan(error)], BINS[0], BINS[-1])
    counts, _ = np.histogram(error, bins=[*BINS, BINS[-1] + 1])
    return tuple(int(count) for count in counts)


@dataclass(frozen=True)
class CaseFigures:
    """One case on one backend.

    Attributes:
        case: Its name.
        outputs: Every output of the reference.
        decisions: How many decisions the reference made, and how many of them the backend made too.
        flips: What was decided otherwise: ``label: POSITIVE -> NEGATIVE``.
        seconds: The backend's passes.
        failure: What went wrong, where no figures are.
    """

    case: str
    outputs: tuple[OutputFigures, ...] = ()
    decisions: tuple[int, int] = (0, 0)
    flips: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    failure: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst of the outputs; a flip of something firm is a divergence whatever the figures say."""
        if self.failure:
            return Verdict.FAILED
        found = worst([output.verdict for output in self.outputs])
        noisy = found in FINE
        return Verdict.DIVERGED if self.flips and not noisy else found


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
) -> CaseFigures:
    """The figures of one case.

    Args:
        case: Its name.
        found: The backend's outputs.
        reference: PyTorch's at the precision under test.
        truth: PyTorch's in float64.
        valid: Which leading entries of which output mean something.
        precision: The precision under test.
        tolerance: What is allowed.
        decisions: Those read off the reference.
        own: Those read off the backend's outputs, in the same order.
        required: Outputs that the backend must have; None: all of the reference's.
        noises: The reference's outputs with its weights moved by one rounding.
    """
    figures = []
    for name, expected in reference.items():
        if expected.dtype.kind != "f" or name not in truth or name.endswith(ABOUT):
            continue
        if name not in found and required is not None and name not in required:
            continue
        mine = [decision for decision in decisions if decision.output == name]
        figures.append(
            judge_output(
                name,
                found.get(name),
                expected,
                truth[name],
                valid=valid.get(name),
                precision=precision,
                tolerance=tolerance,
                decisions=mine,
                scale=float(np.max(reference.get(f"{name}_scale", 0.0))),
                noises=[outputs[name] for outputs in noises if name in outputs],
            )
        )
    flips = _flips(decisions, own, found, reference, valid)
    return CaseFigures(
        case, tuple(figures), (len(decisions), len(decisions) - len(flips)), tuple(flips)
    )


def _flips(
    decisions: Sequence[Decision],
    own: Sequence[Decision],
    found: Arrays,
    reference: Arrays,
    valid: Mapping[str, Array],
) -> list[str]:
    """What was decided otherwise. A value that is not equal but within its margin (a depth) is no flip."""
    changed = []
    for was, now in zip(decisions, own, strict=False):
        mine, theirs = reference.get(was.output), found.get(was.output)
        near = (
            mine is not None
            and theirs is not None
            and mine.shape == theirs.shape
            and stands(was, _off(theirs, mine, valid.get(was.output)))
        )
        if was.value != now.value and not near:
            changed.append(f"{was.name}: {was.value} -> {now.value}")
    if len(own) != len(decisions):
        changed.append(f"{len(decisions)} decisions -> {len(own)}")
    return changed
