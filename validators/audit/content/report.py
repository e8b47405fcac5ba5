"""The result of an audit: what became of every weight of a program, and what is missing or not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from equipoise.convert.core.arrays import Array

_MAX_RANGES = 5
_MAX_MISSING = 3


@dataclass(frozen=True)
class Explanation:
    """How a weight is made of tensors of the source.

    Attributes:
        sources: The tensors.
        how: The operation.
    """

    sources: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class AuditedWeight:
    """A weight of a program that is a tensor of the source, or made of some by a known operation.

    Attributes:
        name: Its name in the program.
        dtype: Its dtype there.
        shape: Its shape there.
        sources: The source's tensors; none for a table that is computed.
        how: The operation: ``transposed``, ``cast to float16``, ``concatenated``; empty if the bytes are those of the source.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sources: tuple[str, ...] = ()
    how: str = ""


@dataclass(frozen=True)
class UnaccountedWeight:
    """A weight of a program that is not what the source holds.

    Attributes:
        name: Its name in the program.
        dtype: Its dtype there.
        shape: Its shape there.
        problem: What is wrong: ``rows 41-92 are zero``.
        nearest: The source's tensor that it is nearest to; empty if it is like none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    problem: str
    nearest: str = ""

    def __str__(self) -> str:
        """Returns a sentence without a full stop."""
        sizes = "x".join(map(str, self.shape)) or "scalar"
        is_named_so = not self.nearest or self.name.endswith(self.nearest)
        nearest = "" if is_named_so else f", nearest {self.nearest}"
        return f"weight {self.name} ({self.dtype} {sizes}){nearest}: {self.problem}"


@dataclass(frozen=True)
class NonFiniteWeight:
    """A weight with values that are NaN or infinite.

    Attributes:
        side: ``program`` or ``source``.
        name: Its name there.
        nan: Number of NaNs.
        infinite: Number of infinities.
        rows: The rows that hold them: ``7, 9-12``; empty for a vector.
    """

    side: str
    name: str
    nan: int
    infinite: int
    rows: str = ""

    def __str__(self) -> str:
        """Returns a sentence without a full stop."""
        counts = [
            f"{n} {what}" for n, what in ((self.nan, "NaN"), (self.infinite, "infinite")) if n
        ]
        rows = f" in rows {self.rows}" if self.rows else ""
        return (
            f"{self.side}: {self.name} holds values that are not finite: {', '.join(counts)}{rows}"
        )


@dataclass(frozen=True)
class AuditReport:
    """The audit of one program.

    Attributes:
        traced: Weights that are a tensor of the source bit for bit, in the same order of axes or another.
        explained: Weights that a known operation makes of the source's tensors, and tables that are computed.
        not_accounted: Weights that are neither: findings.
        unknown: Constants that are like no tensor of the source, where none is missing either.
        missing: Tensors of the source that appear nowhere in the program.
        non_finite: Weights with NaN or infinity, on both sides.
        small: Number of constants that are not looked at: scalars, shapes and other integers.
        seconds: Duration.
        failure: Why there was no audit; empty if there was one.
    """

    traced: tuple[AuditedWeight, ...] = ()
    explained: tuple[AuditedWeight, ...] = ()
    not_accounted: tuple[UnaccountedWeight, ...] = ()
    unknown: tuple[UnaccountedWeight, ...] = ()
    missing: tuple[str, ...] = ()
    non_finite: tuple[NonFiniteWeight, ...] = ()
    small: int = 0
    seconds: float = 0.0
    failure: str = ""

    @property
    def findings(self) -> tuple[str, ...]:
        """What makes the program wrong: weights that are not accounted for, NaN and infinity that the source does not hold."""
        named = {one.name for one in self.not_accounted}
        in_source = {one.name for one in self.non_finite if one.side == "source"}
        sources = {one.name: one.sources for one in (*self.traced, *self.explained)}
        broken = [
            str(one)
            for one in self.non_finite
            if one.side == "program"
            and one.name not in named
            and not in_source.intersection(sources.get(one.name, ()))
        ]
        return (*map(str, self.not_accounted), *broken)

    @property
    def summary(self) -> str:
        """The counts in a sentence without a full stop."""
        if self.failure:
            return f"weights not audited: {self.failure}"
        counts = (
            (len(self.traced), "traced to the source"),
            (len(self.explained), "explained"),
            (len(self.not_accounted), "not accounted for"),
            (len(self.unknown), "unknown"),
            (len(self.non_finite), "not finite"),
        )
        text = "weights: " + (", ".join(f"{n} {what}" for n, what in counts if n) or "none")
        if self.missing:
            more = ", ..." if len(self.missing) > _MAX_MISSING else ""
            names = ", ".join(self.missing[:_MAX_MISSING])
            text += f"; {len(self.missing)} of the source are not in the program ({names}{more})"
        return text


def format_ranges(indices: Sequence[int] | Array) -> str:
    """Returns indices as ranges.

    >>> format_ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    values = [int(one) for one in indices]
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(values)) if b != a + 1), len(values)]
    ranges = [values[start:end] for start, end in pairwise(breaks)]
    texts = [f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in ranges]
    more = len(texts) - _MAX_RANGES
    return ", ".join(texts[:_MAX_RANGES]) + (f" and {more} more ranges" if more > 0 else "")
