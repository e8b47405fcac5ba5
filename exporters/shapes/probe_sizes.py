"""Samples a size condition near the traced size and simplifies it to bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from equipoise.convert.core.framework_types import SympyExpr, SympySymbol

NEARBY_SIZES = 600
"""Every size at most this far from the traced one is probed; further away, ever fewer are."""
LARGEST_PROBED_SIZE = 2**22

Sizes = Mapping[SympySymbol, int]
"""PyTorch's symbols -> their values."""


def simplify_condition(condition: SympyExpr, traced: Sizes) -> list[SympyExpr]:
    """Returns an equivalent list of simpler conditions: bounds of one size where that is possible.

    A condition over one size that holds exactly for an interval becomes the bounds of the interval. A conjunction is
    split. Everything else is returned unchanged. For example, with a traced size of 10:

    >>> import sympy
    >>> n = sympy.Symbol("n", integer=True)
    >>> simplify_condition(2 * n + 6 < 160, {n: 10})
    [n <= 76]
    >>> simplify_condition(sympy.And(n > 3, n < 20), {n: 10})
    [n >= 4, n <= 19]

    Args:
        condition: The condition in SymPy.
        traced: The sizes of the example, at which the condition holds.
    """
    import sympy

    if isinstance(condition, sympy.And):
        return [one for part in condition.args for one in simplify_condition(part, traced)]
    if len(condition.free_symbols) > 1:
        return [condition]
    (symbol,) = condition.free_symbols

    def holds(value: int) -> bool:
        return bool(condition.xreplace({symbol: sympy.Integer(value)}))

    probed = sorted({traced[symbol], *probe_sizes(condition, traced[symbol])})
    true = [value for value in probed if holds(value)]
    least, most = true[0], true[-1]
    if true != [value for value in probed if least <= value <= most]:
        return [condition]
    below, above = probed[: probed.index(least)], probed[probed.index(most) + 1 :]
    has_gaps = (below and below[-1] < least - 1) or (above and above[0] > most + 1)
    if has_gaps and _is_periodic(condition):
        return [condition]
    lower = [sympy.Ge(symbol, _bisect_edge(least, below[-1], holds))] if below else []
    upper = [sympy.Le(symbol, _bisect_edge(most, above[0], holds))] if above else []
    return lower + upper


def _is_periodic(condition: SympyExpr) -> bool:
    """Checks whether a condition contains remainders, so that it may change between any two sizes."""
    from torch.utils._sympy.functions import Mod, PythonMod

    return bool(condition.atoms(Mod, PythonMod))


def _bisect_edge(inside: int, outside: int, holds: Callable[[int], bool]) -> int:
    """Returns the last size towards ``outside`` for which the condition still holds."""
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return inside


def probe_sizes(condition: SympyExpr, traced: int) -> Iterator[int]:
    """Yields sizes to probe: near the traced one, near the numbers in the condition, and ever fewer beyond."""
    import sympy

    sizes = {*range(traced - NEARBY_SIZES, traced + NEARBY_SIZES + 1)}
    numbers = {int(number) for number in condition.atoms(sympy.Integer)}
    sizes |= {number + step for number in numbers for step in (-1, 0, 1)}
    far = traced + NEARBY_SIZES
    while far < LARGEST_PROBED_SIZE:
        far += far // 4
        sizes.add(far)
    return (value for value in sizes - {traced} if 0 < value < LARGEST_PROBED_SIZE * 2)
