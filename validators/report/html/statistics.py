"""Computes and formats the numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

from equipoise.validators.judgement.results import (
    HISTOGRAM_EDGES,
    BackendResult,
    CaseMetrics,
    OutputMetrics,
)

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(value: float | None, digits: int = 3) -> str:
    """Formats a number with a few digits; None is a dash.

    >>> format_number(1.23456e-7), format_number(0.0), format_number(None)
    ('1.23e-07', '0', '—')
    >>> format_number(float("inf")), format_number(float("nan"))
    ('∞', 'NaN')
    """
    if value is None:
        return "—"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def format_power(exponent: int) -> str:
    """Formats a power of ten.

    >>> format_power(-7)
    '10⁻⁷'
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def format_seconds(value: float | None) -> str:
    """Formats a duration in seconds or milliseconds.

    >>> format_seconds(0.0042), format_seconds(2.5), format_seconds(None)
    ('4.2 ms', '2.5 s', '—')
    """
    if value is None:
        return "—"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def format_bytes(count: int) -> str:
    """Formats a number of bytes in decimal units.

    >>> format_bytes(408_000_000), format_bytes(0)
    ('408 MB', '—')
    """
    if not count:
        return "—"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def typical_latency(result: BackendResult) -> float | None:
    """Returns the median duration of the passes after the first of each case, which often compiles; else the fastest."""
    passes = [second for case in result.cases for second in case.seconds]
    later = [second for case in result.cases for second in case.seconds[1:]]
    return median(later) if later else min(passes, default=None)


def slowest_pass(result: BackendResult) -> float | None:
    """Returns the duration of the slowest pass."""
    return max((second for case in result.cases for second in case.seconds), default=None)


def count_passes(result: BackendResult) -> int:
    """Returns the number of passes."""
    return sum(len(case.seconds) for case in result.cases)


def smallest_margin(result: BackendResult) -> float | None:
    """Returns the smallest margin of all decisions."""
    margins = [output.margin for _, output in case_outputs(result) if output.margin is not None]
    return min(margins, default=None)


def case_outputs(result: BackendResult) -> Iterable[tuple[CaseMetrics, OutputMetrics]]:
    """Returns every output of every case."""
    return ((case, output) for case in result.cases for output in case.outputs)


def error_histogram(result: BackendResult, like: BackendResult | None = None) -> list[int]:
    """Returns the error histogram over all outputs, or over those that another backend has too."""
    included = (
        None if like is None else {(c.case, o.name) for c, o in case_outputs(like) if o.errors}
    )
    total = [0] * len(HISTOGRAM_EDGES)
    for case, output in case_outputs(result):
        if included is None or (case.case, output.name) in included:
            for index, count in enumerate(output.errors):
                total[index] += count
    return total
