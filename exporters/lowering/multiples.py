"""Sizes that are multiples of others: so many patches in each of so many pictures, and four of them become one.

PyTorch counts all patches, divides them, and assumes that nothing is left. JAX wants to see that, so the size is written as a
product from the start: ``patches`` as ``4 * patches_of_each * (limits - 1)``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from equipoise.exporters.lowering.equal import is_open, value_of
from equipoise.exporters.lowering.sizes import is_size

NAMES = re.compile(r"[a-zA-Z_]\w*")
OF_EACH = "_of_each"
"""Behind the name of a size: how often what it is a multiple of goes into it."""
REMAINDER = re.compile(r"The remainder mod\((.+), -? ?(\d+)\) should be 0")
"""What JAX says where it cannot divide."""


@dataclass(frozen=True)
class Multiple:
    """What a size is a multiple of.

    Attributes:
        number: A number,
        of: times a sum of other sizes.
    """

    number: int = 1
    of: str = "1"

    def __str__(self) -> str:
        return self.of if self.number == 1 else f"{self.number}*({self.of})"

    def expression(self, name: str, symbol: Any) -> Any:
        """The size of a name, as a sum of products of symbols of this kind."""
        import sympy

        kind = type(symbol)
        known = {one: kind(one) for one in NAMES.findall(self.of)}
        of = sympy.sympify(self.of, locals=known)
        return (self.number * kind(f"{name}{OF_EACH}") * of).expand()


def found_in(
    sizes: Iterable[Any], question: str, known: Mapping[str, Multiple], traced: Mapping[str, int]
) -> dict[str, Multiple]:
    """What more is to be written as a multiple after an operator failed.

    Args:
        sizes: That the operator met.
        question: What JAX could not decide.
        known: What is written as multiples already.
        traced: The sizes by symbol that PyTorch was shown; nothing is assumed that does not hold for them.
    """
    made = {name: Multiple(of=of) for name, of in _shared(sizes, traced).items()}
    if made.keys() - known.keys():
        return {name: one for name, one in made.items() if name not in known}
    number, names = _left_over(question)
    for name in sorted(names & traced.keys()):
        before = known.get(name, Multiple())
        if number > 1 and not traced[name] % (before.number * number):
            return {name: replace(before, number=before.number * number)}
    return {}


def _shared(sizes: Iterable[Any], traced: Mapping[str, int]) -> dict[str, str]:
    """Symbols that are divided by sums of others, without a remainder at the traced sizes -> these sums."""
    found: dict[str, str] = {}
    for first, second in _quotients(sizes):
        names = first._get_vars() | second._get_vars() if is_size(first) else set()
        plain = len(names) > 1 and str(first) in names and "(" not in str(second)
        if plain and names <= traced.keys() and not traced[str(first)] % value_of(second, traced):
            found.setdefault(str(first), str(second))
    return found


def _quotients(sizes: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The operands of all divisions of a size by another, those of quotients within quotients too."""
    for size in sizes:
        terms = size._sorted_terms if is_size(size) else ()
        for one in (one for term, _ in terms for one, _ in term._factors if one.operation):
            if one.operation in ("floordiv", "mod") and is_open(one.operands[1]):
                yield one.operands
            yield from _quotients(one.operands)


def _left_over(question: str) -> tuple[int, set[str]]:
    """By which number a product had to be divisible for nothing to be left, and the sizes that are in all of its terms."""
    found = REMAINDER.search(question)
    if found is None or "(" in found[1]:
        return 1, set()
    terms = [term.split("*") for term in re.split(r" [+-] ", found[1].removeprefix("- "))]
    counts = [int(term[0]) if term[0].isdigit() else 1 for term in terms]
    names = set.intersection(*(set(term) for term in terms))
    by = int(found[2])
    return by // math.gcd(*counts, by), {name.removesuffix(OF_EACH) for name in names}
