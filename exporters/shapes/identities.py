"""Finds sizes that are always equal although JAX, which compares them by their text, does not see it.

PyTorch writes one length as ``ceil(n / 64) * 64`` here and as ``n + (-n) % 64`` there. Where an operator fails over
that, the sizes that it met are compared by value at many lengths, and what is always equal is stated as a constraint
of the next attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

from equipoise.convert.core.framework_types import SymbolicDim
from equipoise.exporters.lowering.dims import (
    evaluate,
    has_symbolic_divisor,
    is_symbolic,
    symbols_in,
    term_as_dim,
    terms,
)

MAX_SIZE = 2**31
"""No size is larger."""
MAX_STEPS_FROM_TRACED = 1500
"""An interval around the traced size is searched this far."""
MAX_SYMBOLS = 4
"""Sizes of more symbols are not compared."""
SAMPLE_SIZES = (*range(1, 10), *(2**power + step for power in range(4, 14) for step in (-1, 0, 1)))
"""Values at which sizes of one symbol are compared."""
SAMPLE_SIZES_OF_SEVERAL = (1, 2, 5, 9, 64, 65, 513, 1000, 4097, 10_007)
"""Values of each symbol at which sizes of several symbols are compared, in all combinations."""


def find_identities(
    sizes: Sequence[SymbolicDim], constraints: Sequence[str], traced: Mapping[str, int]
) -> list[str]:
    """Returns constraints of JAX under which sizes are equal: a term on the left, what it equals on the right.

    Three kinds are tried, the weakest restriction first; the first that yields something is returned:

    1. equalities that hold for all sizes, such as ``mod(-n, 64) == 64*floordiv(n + 63, 64) - n``;
    2. an interval around the traced size within which two sizes are equal: ``n <= 512``;
    3. an interval within which a size is not empty: ``n >= 7``.

    Args:
        sizes: Sizes that an operator met.
        constraints: Constraints that are stated already; their equalities are not repeated.
        traced: The sizes of the example by symbol.
    """
    bounds = _bounds(constraints)
    comparable = [size for size in sizes if not has_symbolic_divisor(size)]
    differences = [
        one - other for one, other in combinations(comparable, 2) if is_symbolic(one - other)
    ]
    found: list[str] = []
    left_sides = {one.partition(" == ")[0] for one in constraints}
    for difference in differences:
        equality = _as_equality(difference) if _always_zero(difference, bounds) else None
        if equality is not None and equality.partition(" == ")[0] not in left_sides:
            left_sides.add(equality.partition(" == ")[0])
            found.append(equality)
    if found:
        return found
    equal = [(one, range(1)) for one in differences]
    not_empty = [(size, range(1, MAX_SIZE)) for size in sizes if is_symbolic(size)]
    for size, allowed in (*equal, *not_empty):
        interval = _interval_constraints(size, allowed, bounds, traced)
        if set(interval) - set(constraints):
            return interval
    return []


def _bounds(constraints: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns the smallest and the largest size that constraints leave to each symbol."""
    found: dict[str, tuple[int, int]] = {}
    for one in constraints:
        parts = one.split()
        if len(parts) == 3 and parts[0].isidentifier() and parts[2].isdigit():
            low, high = found.get(parts[0], (1, MAX_SIZE))
            number = int(parts[2])
            found[parts[0]] = (
                (max(low, number), high) if parts[1] == ">=" else (low, min(high, number))
            )
    return found


def _always_zero(size: SymbolicDim, bounds: Mapping[str, tuple[int, int]]) -> bool:
    """Checks whether a size is zero at all sampled values of its symbols."""
    names = sorted(symbols_in(size))
    if len(names) > MAX_SYMBOLS:
        return False
    samples = SAMPLE_SIZES if len(names) == 1 else SAMPLE_SIZES_OF_SEVERAL
    values = []
    for name in names:
        low, high = bounds.get(name, (1, MAX_SIZE))
        inside = [one for one in samples if low <= one <= high]
        values.append([*inside, *(low + one for one in samples if low + one <= high)])
    is_defined = False
    for at in product(*values):
        value = _value_or_none(size, dict(zip(names, at, strict=True)))
        if value:
            return False
        is_defined |= value == 0
    return is_defined


def _interval_constraints(
    size: SymbolicDim,
    allowed: range,
    bounds: Mapping[str, tuple[int, int]],
    traced: Mapping[str, int],
) -> list[str]:
    """Returns bounds of the interval around the traced size in which a size of one symbol has an allowed value."""
    names = sorted(symbols_in(size))
    if len(names) != 1 or names[0] not in traced:
        return []
    name = names[0]
    low, high = bounds.get(name, (1, MAX_SIZE))
    last = min(high, traced[name] + MAX_STEPS_FROM_TRACED)
    if _value_or_none(size, {name: traced[name]}) not in allowed:
        return []
    least = most = traced[name]
    while least > low and _value_or_none(size, {name: least - 1}) in allowed:
        least -= 1
    while most < last and _value_or_none(size, {name: most + 1}) in allowed:
        most += 1
    if most == least:
        return []  # the traced size alone is no interval
    found = [f"{name} >= {least}"] if least > low else []
    return [*found, f"{name} <= {most}"] if most < last else found


def _as_equality(difference: SymbolicDim) -> str | None:
    """Writes a difference that is zero as an equality, with its longest operation on the left."""
    candidates = [
        term
        for term in terms(difference)
        if abs(term.count) == 1 and any(factor.operation for factor in term.factors)
    ]
    if not candidates:
        return None
    term = max(candidates, key=lambda one: len(one.text))
    left = term_as_dim(term, difference)
    right = left - difference if term.count == 1 else left + difference
    return f"{left} == {right}"


def _value_or_none(size: SymbolicDim, values: Mapping[str, int]) -> int | None:
    """Evaluates a size; None where it divides by zero, since no program has such sizes."""
    try:
        return evaluate(size, values)
    except ZeroDivisionError:
        return None
