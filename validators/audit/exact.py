"""Finds the tensor of the source that a weight is, bit for bit, in another order of axes or another dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.arrangements import bit_sum, find_arrangement
from equipoise.validators.audit.source import SourceWeights, is_same_kind
from equipoise.validators.audit.weights import ProgramWeight


@dataclass(frozen=True)
class ExactMatch:
    """A tensor whose values a weight has.

    Attributes:
        name: The tensor.
        how: Order of axes and cast; empty if the bytes are the same.
        is_cast: Whether the dtypes differ.
        named: Another tensor, which the weight should be by its name; empty if there is none.
    """

    name: str
    how: str
    is_cast: bool
    named: str = ""


def expected_name(weight: ProgramWeight, source: SourceWeights) -> str:
    """Returns the tensor that a weight should be, by its own name or that of the module that reads it; empty if neither says so."""
    found = source.names.find(weight.name)
    if found is None and weight.module:
        found = source.names.find(f"{weight.module}.weight")
    return found or ""


def match_exactly(
    weight: ProgramWeight, found: Array, source: SourceWeights, precision: DType
) -> ExactMatch | None:
    """Returns the tensor that a weight is; None if it is none.

    Args:
        weight: The weight.
        found: Its values.
        source: The source.
        precision: The dtype that the program is declared to have: a weight may be rounded to it and stored in a wider one.
    """
    named = expected_name(weight, source)
    fits = (
        named
        and source.refs[named].size == found.size
        and is_same_kind(source.refs[named].dtype, found.dtype)
    )
    for rounding in _roundings(found.dtype, precision):
        for name in _candidates(named if fits else "", found, source, rounding):
            how = find_arrangement(source.cast(name, found.dtype, rounding), found)
            if how is not None:
                is_cast = rounding is not None or source.refs[name].dtype != found.dtype
                casts = [
                    f"rounded to {rounding.name}" if rounding is not None else "",
                    f"cast to {found.dtype.name}" if source.refs[name].dtype != found.dtype else "",
                ]
                text = ", ".join(one for one in (how, *casts) if one)
                other = named if fits and name != named else ""
                return ExactMatch(name, text, is_cast, other)
    return None


def _roundings(stored: DType, precision: DType) -> Iterator[DType | None]:
    yield None
    if is_floating(stored) and precision.itemsize < stored.itemsize:
        yield precision


def _candidates(
    named: str, found: Array, source: SourceWeights, rounding: DType | None
) -> Iterator[str]:
    """Yields the tensor of the same name first: where it fits, no sum of bits has to be computed."""
    if named:
        yield named
    for name in source.with_sum(found.size, bit_sum(found), found.dtype, rounding):
        if name != named:
            yield name
