"""Writes sizes as products, offsets or other sizes, so that JAX can divide them without a remainder.

PyTorch counts all patches of a batch, divides the count, and assumes that nothing is left over. JAX needs to see that,
so the size is written as a product from the start: ``patches`` as ``4 * patches_of_each``, or as
``16 * (limits - 1)``. JAX solves for one unknown in a size, not for two, so patches that are divided among images are
as many for each image as in the example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

from equipoise.convert.core.framework_types import SymbolicDim, SympyExpr, SympySymbol
from equipoise.exporters.lowering.dims import (
    depends_on_symbols,
    evaluate,
    is_symbolic,
    operations_in,
    symbols_in,
    terms,
)

_NAME_MINUS_NUMBER = re.compile(r"([a-zA-Z_]\w*)(?: - (\d+))?")
COUNT_SUFFIX = "_of_each"
"""Suffix of the symbol that counts how often a size contains what it is a multiple of."""
_REMAINDER_MESSAGE = re.compile(r"The remainder mod\((.+), -? ?(\d+)((?:\*\w+)*)\) should be 0")
"""What JAX reports where it cannot divide (jax 0.10)."""


class SizeSubstitution(Protocol):
    """How a size is written in JAX's notation instead of by its name."""

    def expression(self, name: str, symbol: SympySymbol) -> SympyExpr:
        """Returns a sum of products of symbols, which have the class of the given one."""
        ...

    def describe(self) -> str:
        """Returns the restriction as text for a note; empty if the size is as free as before."""
        ...


@dataclass(frozen=True)
class Offset:
    """Writes a size as a new symbol plus a number: ``n`` as ``n_beyond_1 + 1``.

    Attributes:
        number: The number.
    """

    number: int

    def expression(self, name: str, symbol: SympySymbol) -> SympyExpr:
        """Returns the new symbol plus the number."""
        return type(symbol)(f"{name}_beyond_{self.number}") + self.number

    def describe(self) -> str:
        """Returns nothing: no size is excluded."""
        return ""


@dataclass(frozen=True)
class MultipleOf:
    """Writes a size as a multiple of a number, or of another size less a number.

    ``MultipleOf(4)`` writes ``patches`` as ``4*patches_of_each``; ``MultipleOf(16, "limits", 1)`` writes it as
    ``16*limits_beyond_1``, which is ``16*(limits - 1)``.

    Attributes:
        number: The integer factor.
        name: Name of the other size; empty for a multiple of the number alone.
        less: What is subtracted from the other size.
    """

    number: int = 1
    name: str = ""
    less: int = 0

    def describe(self) -> str:
        """Returns the restriction as text for a note."""
        if not self.name:
            return f"is a multiple of {self.number}"
        return f"is {self.number}*{f'({self.name} - {self.less})' if self.less else self.name}"

    def expression(self, name: str, symbol: SympySymbol) -> SympyExpr:
        """Returns the product."""
        known = f"{self.name}_beyond_{self.less}" if self.less else self.name
        return self.number * type(symbol)(known or f"{name}{COUNT_SUFFIX}")


@dataclass(frozen=True)
class EqualTo:
    """Writes a size as another size, or as an integer.

    Attributes:
        other: Name of the other size, or the integer.
    """

    other: str | int

    def describe(self) -> str:
        """Returns the restriction as text for a note."""
        return f"is {self.other}"

    def expression(self, name: str, symbol: SympySymbol) -> SympyExpr:
        """Returns the other size."""
        return symbol * 0 + self.other if isinstance(self.other, int) else type(symbol)(self.other)


Substitutions = Mapping[str, SizeSubstitution]
"""Names of sizes -> how they are written."""


def merge(known: Substitutions, more: Substitutions) -> dict[str, SizeSubstitution]:
    """Merges substitutions; a size that equals another follows when that one is set equal to a third."""
    found: dict[str, SizeSubstitution] = {}
    for name, one in known.items():
        other = more.get(str(one.other)) if isinstance(one, EqualTo) else None
        found[name] = other if isinstance(other, EqualTo) else one
    return {**found, **more}


def find_equal_sizes(
    sizes: Iterable[SymbolicDim], known: Substitutions, traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """Finds a size that PyTorch uses in place of another without stating it: a mask is as long as what it masks.

    Looks for two symbolic sizes that are equal at the traced sizes and differ by one symbol, or by its name only.
    """
    for first, second in combinations([one for one in sizes if is_symbolic(one)], 2):
        if same := _equal_up_to_name(first, second, known, traced):
            return same
        parts = terms(first - second)
        named = sorted(
            (term.text, term.count)
            for term in parts
            if not term.is_constant and term.text in traced and term.text not in known
        )
        number = sum(term.count for term in parts if term.is_constant)
        others = len(parts) - len(named) - bool(number)
        if others or any(abs(count) != 1 for _, count in named):
            continue
        match named:
            case [(name, count)] if traced[name] == -number * count:
                return {name: EqualTo(traced[name])}
            case [(one, _), (other, _)] if number == 0 and traced[one] == traced[other]:
                return {one: EqualTo(other)}
    return {}


def freeze_one_length(
    sizes: Iterable[SymbolicDim], known: Substitutions, traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """Fixes one length that an operator met at the size of the example; batches stay dynamic. The last resort."""
    names = {name.removesuffix(COUNT_SUFFIX) for one in sizes for name in symbols_in(one)}
    lengths = sorted(name for name in names & traced.keys() if not name.endswith("batch_size"))
    left = [name for name in lengths if not isinstance(known.get(name), (EqualTo, Offset))]
    return {left[0]: EqualTo(traced[left[0]])} if left else {}


def _equal_up_to_name(
    first: SymbolicDim, second: SymbolicDim, known: Substitutions, traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """Finds two sizes of one symbol each that have the same form and the same traced length."""
    names = sorted(symbols_in(first)), sorted(symbols_in(second))
    if [len(one) for one in names] != [1, 1] or names[0] == names[1]:
        return {}
    (mine,), (theirs,) = names
    renamed = re.sub(rf"\b{mine}\b", theirs, str(first))
    one, other = sorted((mine, theirs))
    length = traced.get(one)
    is_same_length = length is not None and length == traced.get(other) and one not in known
    # JAX orders terms by name, so the two texts are compared without their order.
    is_same_form = sorted(renamed) == sorted(str(second))
    return {one: EqualTo(other)} if is_same_length and is_same_form else {}


def find_multiples(
    sizes: Iterable[SymbolicDim], question: str, known: Substitutions, traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """Returns sizes to write as multiples after an operator failed to divide.

    Args:
        sizes: Sizes that the operator met.
        question: What JAX could not decide.
        known: Substitutions that are in use already.
        traced: The sizes of the example by symbol; nothing is assumed that does not hold for them.
    """
    for name, multiple in _symbolic_multiples(sizes, traced).items():
        if name not in known and multiple.name not in known:
            offset = {multiple.name: Offset(multiple.less)} if multiple.less else {}
            return {name: multiple, **offset}
    number, names = _required_divisor(question)
    for name in sorted(names & traced.keys()):
        before = known.get(name, MultipleOf())
        if (
            number > 1
            and isinstance(before, MultipleOf)
            and not traced[name] % (before.number * number)
        ):
            return {name: replace(before, number=before.number * number)}
    return {}


def _symbolic_multiples(
    sizes: Iterable[SymbolicDim], traced: Mapping[str, int]
) -> dict[str, MultipleOf]:
    """Returns symbols that are divided by another symbol (less a number) without remainder at the traced sizes."""
    found: dict[str, MultipleOf] = {}
    for first, second in _quotients(sizes):
        names = symbols_in(first) | symbols_in(second) if is_symbolic(first) else set()
        by = _NAME_MINUS_NUMBER.fullmatch(str(second))
        if len(names) < 2 or by is None or str(first) not in names or not names <= traced.keys():
            continue
        count, remainder = divmod(traced[str(first)], evaluate(second, traced))
        if not remainder:
            found.setdefault(str(first), MultipleOf(count, by[1], int(by[2] or 0)))
    return found


def _quotients(sizes: Iterable[SymbolicDim]) -> Iterator[tuple[SymbolicDim, SymbolicDim]]:
    """Yields the operands of all divisions of a size by a symbolic size, nested ones too."""
    for size in sizes:
        for one in operations_in(size):
            if one.operation in ("floordiv", "mod") and depends_on_symbols(one.operands[1]):
                yield one.operands[0], one.operands[1]
            yield from _quotients(one.operands)


def _required_divisor(question: str) -> tuple[int, set[str]]:
    """Returns the number that a product must be divisible by, and the sizes that occur in all of its terms.

    >>> _required_divisor("The remainder mod(6*a*b + 3*a, 4) should be 0")
    (4, {'a'})
    """
    found = _REMAINDER_MESSAGE.search(question)
    if found is None or "(" in found[1]:
        return 1, set()
    products = [term.split("*") for term in re.split(r" [+-] ", found[1].removeprefix("- "))]
    counts = [int(term[0]) if term[0].isdigit() else 1 for term in products]
    names = set.intersection(*(set(term) for term in products)) - set(found[3].split("*"))
    by = int(found[2])
    return by // math.gcd(*counts, by), {name.removesuffix(COUNT_SUFFIX) for name in names}
