"""Sizes that are multiples of others: so many patches in each of so many pictures, and four of them become one.

PyTorch counts all patches, divides them, and assumes that nothing is left. JAX wants to see that, so the size is written as a
product from the start: ``patches`` as ``4 * patches_of_each``, or as ``16 * (limits - 1)``. JAX finds one unknown in a size,
not two, so patches that are divided among pictures are as many in each as in the example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

from equipoise.exporters.lowering.dims import is_symbolic
from equipoise.exporters.shapes.identities import is_open, value_of

_NAME_MINUS_NUMBER = re.compile(r"([a-zA-Z_]\w*)(?: - (\d+))?")
COUNT_SUFFIX = "_of_each"
"""Behind the name of a size: how often what it is a multiple of goes into it."""
_REMAINDER_MESSAGE = re.compile(r"The remainder mod\((.+), -? ?(\d+)((?:\*\w+)*)\) should be 0")
"""What JAX says where it cannot divide."""


class SizeSubstitution(Protocol):
    """How a size is written in JAX's notation, other than by its name."""

    def expression(self, name: str, symbol: Any) -> Any:
        """A sum of products of symbols of the kind of this one."""
        ...

    def said(self) -> str:
        """What there is to note of the size; nothing if it may be what it was."""
        ...


@dataclass(frozen=True)
class Offset:
    """A size as a number and what it is beyond it.

    Attributes:
        number: The number.
    """

    number: int

    def expression(self, name: str, symbol: Any) -> Any:
        """What is beyond, and the number."""
        return type(symbol)(f"{name}_beyond_{self.number}") + self.number

    def said(self) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True)
class MultipleOf:
    """What a size is a multiple of.

    Attributes:
        number: A number, times
        name: another size; if there is none, times anything;
        less: what the other size is taken less of.
    """

    number: int = 1
    name: str = ""
    less: int = 0

    def said(self) -> str:
        """What there is to note of the size."""
        if not self.name:
            return f"is a multiple of {self.number}"
        return f"is {self.number}*{f'({self.name} - {self.less})' if self.less else self.name}"

    def expression(self, name: str, symbol: Any) -> Any:
        """The product."""
        known = f"{self.name}_beyond_{self.less}" if self.less else self.name
        return self.number * type(symbol)(known or f"{name}{COUNT_SUFFIX}")


@dataclass(frozen=True)
class EqualTo:
    """A size that is another one.

    Attributes:
        other: The other size's name, or a number.
    """

    other: str | int

    def said(self) -> str:
        """What there is to note of the size."""
        return f"is {self.other}"

    def expression(self, name: str, symbol: Any) -> Any:
        """The other one."""
        return symbol * 0 + self.other if isinstance(self.other, int) else type(symbol)(self.other)


def merge(
    known: Mapping[str, SizeSubstitution], more: Mapping[str, SizeSubstitution]
) -> dict[str, SizeSubstitution]:
    """All of them; a size that is another one, of which there is more to say now, is what that one is."""
    found: dict[str, SizeSubstitution] = {}
    for name, one in known.items():
        other = more.get(str(one.other)) if isinstance(one, EqualTo) else None
        found[name] = other if isinstance(other, EqualTo) else one
    return {**found, **more}


def find_equal_sizes(
    sizes: Iterable[Any], known: Mapping[str, SizeSubstitution], traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """A size that PyTorch takes for another without having said so: masks are as long as what they are of.

    Of two open sizes that are equal at the traced lengths and differ by one symbol, or are the same but for its name.
    """
    for first, second in combinations([one for one in sizes if is_symbolic(one)], 2):
        if same := _equal_up_to_name(first, second, known, traced):
            return same
        terms = (first - second)._sorted_terms if is_symbolic(first - second) else ()
        named = sorted(
            (str(term), count)
            for term, count in terms
            if not term.is_constant and str(term) in traced and str(term) not in known
        )
        number = sum(count for term, count in terms if term.is_constant)
        others = len(terms) - len(named) - bool(number)
        if others or any(abs(count) != 1 for _, count in named):
            continue
        match named:
            case [(name, count)] if traced[name] == -number * count:
                return {name: EqualTo(traced[name])}
            case [(one, _), (other, _)] if number == 0 and traced[one] == traced[other]:
                return {one: EqualTo(other)}
    return {}


def freeze_one_length(
    sizes: Iterable[Any], known: Mapping[str, SizeSubstitution], traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """The last resort: a length that the operator met is that of the example for good. Batches stay open."""
    names = {
        name.removesuffix(COUNT_SUFFIX)
        for one in sizes
        if is_symbolic(one)
        for name in one._get_vars()
    }
    lengths = sorted(name for name in names & traced.keys() if not name.endswith("batch"))
    left = [name for name in lengths if not isinstance(known.get(name), (EqualTo, Offset))]
    return {left[0]: EqualTo(traced[left[0]])} if left else {}


def _equal_up_to_name(
    first: Any, second: Any, known: Mapping[str, SizeSubstitution], traced: Mapping[str, int]
) -> dict[str, SizeSubstitution]:
    """Two sizes of one symbol each that say the same of two symbols of one length."""
    names = sorted(first._get_vars()), sorted(second._get_vars())
    if [len(one) for one in names] != [1, 1] or names[0] == names[1]:
        return {}
    (mine,), (theirs,) = names
    renamed = re.sub(rf"\b{mine}\b", theirs, str(first))
    one, other = sorted((mine, theirs))
    length = traced.get(one)
    is_same = length is not None and length == traced.get(other) and one not in known
    # The order of terms goes by names.
    return {one: EqualTo(other)} if is_same and sorted(renamed) == sorted(str(second)) else {}


def find_multiples(
    sizes: Iterable[Any],
    question: str,
    known: Mapping[str, SizeSubstitution],
    traced: Mapping[str, int],
) -> dict[str, SizeSubstitution]:
    """What more is to be written as a multiple after an operator failed.

    Args:
        sizes: That the operator met.
        question: What JAX could not decide.
        known: What is written as multiples already.
        traced: The sizes by symbol that PyTorch was shown; nothing is assumed that does not hold for them.
    """
    for name, of in _symbolic_multiples(sizes, traced).items():
        if name not in known and of.name not in known:
            return {name: of, **({of.name: Offset(of.less)} if of.less else {})}
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


def _symbolic_multiples(sizes: Iterable[Any], traced: Mapping[str, int]) -> dict[str, MultipleOf]:
    """Symbols that are divided by another, or by one less a number, without a remainder at the traced sizes."""
    found: dict[str, MultipleOf] = {}
    for first, second in _quotients(sizes):
        names = first._get_vars() | second._get_vars() if is_symbolic(first) else set()
        by = _NAME_MINUS_NUMBER.fullmatch(str(second))
        if len(names) < 2 or by is None or str(first) not in names or not names <= traced.keys():
            continue
        count, left = divmod(traced[str(first)], value_of(second, traced))
        if not left:
            found.setdefault(str(first), MultipleOf(count, by[1], int(by[2] or 0)))
    return found


def _quotients(sizes: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The operands of all divisions of a size by another, those of quotients within quotients too."""
    for size in sizes:
        terms = size._sorted_terms if is_symbolic(size) else ()
        for one in (one for term, _ in terms for one, _ in term._factors if one.operation):
            if one.operation in ("floordiv", "mod") and is_open(one.operands[1]):
                yield one.operands
            yield from _quotients(one.operands)


def _required_divisor(question: str) -> tuple[int, set[str]]:
    """By which number a product had to be divisible for nothing to be left, and the sizes that are in all of its terms."""
    found = _REMAINDER_MESSAGE.search(question)
    if found is None or "(" in found[1]:
        return 1, set()
    terms = [term.split("*") for term in re.split(r" [+-] ", found[1].removeprefix("- "))]
    counts = [int(term[0]) if term[0].isdigit() else 1 for term in terms]
    names = set.intersection(*(set(term) for term in terms)) - set(found[3].split("*"))
    by = int(found[2])
    return by // math.gcd(*counts, by), {name.removesuffix(COUNT_SUFFIX) for name in names}
