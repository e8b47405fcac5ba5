"""Conditions of sizes, and the sizes around the example's at which they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

NEARBY_SIZES = 600
"""All sizes as near to the example's are looked at, those around the numbers of a condition, and some beyond."""
LARGEST_PROBED_SIZE = 2**22

Sizes = Mapping[Any, int]
"""PyTorch's symbols -> their values."""


def simplify_condition(condition: Any, traced: Sizes) -> list[Any]:
    """A least and a largest size, where these are the condition; its parts; or it as it is."""
    import sympy

    if isinstance(condition, sympy.And):
        return [one for part in condition.args for one in simplify_condition(part, traced)]
    if len(condition.free_symbols) > 1:
        return [condition]
    (symbol,) = condition.free_symbols

    def holds(value: int) -> bool:
        return bool(condition.xreplace({symbol: sympy.Integer(value)}))

    at = sorted({traced[symbol], *probe_sizes(condition, traced[symbol])})
    true = [value for value in at if holds(value)]
    least, most = true[0], true[-1]
    if true != [value for value in at if least <= value <= most]:
        return [condition]
    below, above = at[: at.index(least)], at[at.index(most) + 1 :]
    gaps = (below and below[-1] < least - 1) or (above and above[0] > most + 1)
    if gaps and _is_periodic(condition):
        return [condition]
    lower = [sympy.Ge(symbol, _bisect_edge(least, below[-1], holds))] if below else []
    return lower + ([sympy.Le(symbol, _bisect_edge(most, above[0], holds))] if above else [])


def _is_periodic(condition: Any) -> bool:
    """Whether there are remainders in a condition: it may change between any two sizes."""
    from torch.utils._sympy.functions import Mod, PythonMod

    return bool(condition.atoms(Mod, PythonMod))


def _bisect_edge(inside: int, outside: int, holds: Callable[[int], bool]) -> int:
    """The last size on the way from one inside that is inside itself."""
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return inside


def probe_sizes(condition: Any, traced: int) -> Iterator[int]:
    """Sizes to look at: around the traced one and the numbers in the condition, and ever fewer beyond."""
    import sympy

    around = {*range(traced - NEARBY_SIZES, traced + NEARBY_SIZES + 1)}
    numbers = {int(number) for number in condition.atoms(sympy.Integer)}
    around |= {number + step for number in numbers for step in (-1, 0, 1)}
    far = traced + NEARBY_SIZES
    while far < LARGEST_PROBED_SIZE:
        far += far // 4
        around.add(far)
    return (value for value in around - {traced} if 0 < value < LARGEST_PROBED_SIZE * 2)
