"""Finds the tensor of the source that a weight is, bit for bit, in another order of axes or another dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equipoise.convert.core.arrays import Array, DType, bit_sum
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.content.arrangements import find_arrangement
from equipoise.validators.audit.content.source import SourceWeights


@dataclass(frozen=True)
class ExactMatch:
    """A tensor whose values a weight has.

    Attributes:
        name: The tensor.
        how: Order of axes and cast; empty if the bytes are the same.
        is_cast: Whether the dtypes differ, or the values were rounded.
    """

    name: str
    how: str
    is_cast: bool


def match_exactly(
    found: Array, source: SourceWeights, precision: DType, named: str = ""
) -> ExactMatch | None:
    """Returns the tensor that a weight is; None if it is none.

    Args:
        found: The weight's values.
        source: The source.
        precision: The dtype that the program is declared to have: a weight may be rounded to it and stored in a wider one.
        named: The tensor that the weight should be by its name: it is compared first, before any sum of bits is computed.
    """
    for rounding in _roundings(found.dtype, precision):
        for name in _candidates(found, source, rounding, named):
            how = find_arrangement(source.cast(name, found.dtype, rounding), found)
            if how is not None:
                stored = source.refs[name].dtype
                texts = [
                    how,
                    f"rounded to {rounding.name}" if rounding is not None else "",
                    f"cast to {found.dtype.name}" if stored != found.dtype else "",
                ]
                is_cast = any(texts[1:])
                return ExactMatch(name, ", ".join(text for text in texts if text), is_cast)
    return None


def _roundings(stored: DType, precision: DType) -> Iterator[DType | None]:
    yield None
    if is_floating(stored) and precision.itemsize < stored.itemsize:
        yield precision


def _candidates(
    found: Array, source: SourceWeights, rounding: DType | None, named: str
) -> Iterator[str]:
    if named and source.fits(named, found):
        yield named
    for name in source.with_sum(found.size, bit_sum(found), found.dtype, rounding):
        if name != named:
            yield name
