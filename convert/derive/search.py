"""Finds expressions over a config: sizes and counts from numbers, conditions from whether something is there.

What a value depends on is known before anything is searched: two places whose configs differ in one field, and
whose values differ, show that this field matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from equipoise.convert.derive.seen import Values, Variant

Vector = npt.NDArray[np.float64]
FEW = 10
"""As many terms may be combined three at a time."""
SOME = 80
"""As many pairs may be combined with each other."""
MANY = 48
"""As many may be combined two at a time."""
DEEPEST = 2
"""As many cases an expression may tell apart, one inside the other."""
POWERS = [2**power for power in range(8)]
"""The language has no powers; a list of them stands for those of two."""
BUDGET = 40
"""Searches that one size may take."""
DIVISORS = (2, 3, 4, 8, 16, 32)


@dataclass
class Place:
    """Where a value was seen: a variant with its config, and indices."""

    variant: int
    values: Values
    indices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """Part of an expression with its value at every place; ``plain`` needs no parentheses as a factor."""

    text: str
    value: Vector
    plain: bool = True

    @property
    def factor(self) -> str:
        """The text where it is multiplied or divided."""
        return self.text if self.plain else f"({self.text})"

    @property
    def divisor(self) -> str:
        """The text where something is divided by it."""
        return f"({self.text})" if " " in self.text else self.text


class Search:
    """Expressions over the configs of some variants.

    Args:
        variants: The variants; the first is the base.
    """

    def __init__(self, variants: Sequence[Variant]) -> None:
        base = variants[0].values
        self.budget = 0
        self.sizes: dict[object, str | None] = {}
        self.conditions: dict[object, str | None] = {}
        self.single = _single_changes(variants)
        self.moved = {name for name, value in base.items() if isinstance(value, list) and value}
        for one in variants:
            self.moved |= {
                name
                for name, value in one.values.items()
                if base.get(name) != value and not isinstance(value, dict)
            }

    def size(self, places: list[Place], values: Sequence[int]) -> str | None:
        """An expression that has these values at these places."""
        target = np.array(values, np.float64)
        if (target == target[0]).all():
            return str(int(target[0]))
        key = (_key(places), target.tobytes())
        if key not in self.sizes:
            found = None
            for known, fields in enumerate(self._fields(places, values)):
                self.budget = BUDGET
                found = found or self._size(places, target, fields, known)
            self.sizes[key] = _whole(found, places)
        return self.sizes[key]

    def condition(self, places: list[Place], values: Sequence[bool]) -> str | None:
        """A condition that holds at exactly these places; empty when it always holds."""
        target = np.array(values, bool)
        if target.all():
            return ""
        key = (_key(places), target.tobytes())
        if key not in self.conditions:
            found = None
            for fields in self._fields(places, list(map(int, values))):
                found = found or _match(_conditions(places, fields), target)
            self.conditions[key] = found
        return self.conditions[key]

    def _fields(self, places: Sequence[Place], values: Sequence[int]) -> Iterator[list[str]]:
        """What the values depend on: as the single changes show; if that is not enough, all that was ever changed."""
        at = {
            (place.variant, tuple(place.indices.items())): value
            for place, value in zip(places, values, strict=True)
        }
        found: dict[str, None] = {}
        for (variant, indices), value in at.items():
            for parent, names in self.single.get(variant, ()):
                if at.get((parent, indices), value) != value:
                    found.update(dict.fromkeys(names))
        if found:
            yield list(found)
        yield sorted(self.moved, key=lambda name: (name.count("."), name))

    def _size(
        self, places: list[Place], target: Vector, fields: list[str], depth: int
    ) -> str | None:
        if (target == target[0]).all():
            return str(int(target[0]))
        self.budget -= 1
        found = _combined(_terms(places, fields), target)
        if found is not None or depth == DEEPEST:
            return found
        for text, holds in _splits(places, fields):
            if self.budget <= 0:
                return None
            if holds.all() or not holds.any():
                continue
            halves: dict[bool, str | None] = {}
            sides = {kept: _side(places, target, holds == kept) for kept in (True, False)}
            for kept, (inside, wanted) in sides.items():
                halves[kept] = self._size(inside, wanted, fields, DEEPEST)
            # One case is simple; the other may hold cases of its own.
            for kept in (True, False):
                if halves[kept] is None and halves[not kept] is not None:
                    halves[kept] = self._size(*sides[kept], fields, depth + 1)
            if halves[True] is not None and halves[False] is not None:
                return f"({halves[True]}) if {text} else ({halves[False]})"
        return None


def _whole(text: str | None, places: Sequence[Place]) -> str | None:
    """The expression as a whole number where the config gives fractions."""
    if text is None:
        return None
    used = {
        name
        for name, value in places[0].values.items()
        if isinstance(value, float) and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text)
    }
    return f"int({text})" if used else text


def _side(places: list[Place], target: Vector, holds: Any) -> tuple[list[Place], Vector]:
    return [one for one, kept in zip(places, holds, strict=True) if kept], target[holds]


def _key(places: Sequence[Place]) -> int:
    return hash(tuple((one.variant, *one.indices.items()) for one in places))


def _single_changes(
    variants: Sequence[Variant],
) -> dict[int, list[tuple[int, tuple[str, ...]]]]:
    """Variant -> the variants that lack one of its changes, with the fields that then differ."""
    found: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
    for at, one in enumerate(variants):
        for parent in range(len(variants)):
            other = variants[parent]
            if parent == at or len(other.changes) >= len(one.changes):
                continue
            rest = dict(one.changes)
            shared = all(
                name in rest and rest[name] == value for name, value in other.changes.items()
            )
            fields = tuple(name for name in rest if name not in other.changes)
            plain = sum(not isinstance(rest[name], list) for name in fields)
            if shared and (len(fields) == 1 or plain <= 1):
                found.setdefault(at, []).append((parent, fields))
    return found


def _numeric(places: Sequence[Place], name: str) -> Vector | None:
    values: list[Any] = [place.values.get(name) for place in places]
    if all(type(one) in (int, float) for one in values):
        return np.array(values, np.float64)
    return None


def _terms(places: list[Place], fields: Iterable[str]) -> list[Term]:
    """Fields, elements and lengths of lists, and indices, each with its values; equal ones once."""
    found: dict[bytes, Term] = {}

    def add(text: str, value: Vector | None, plain: bool = True) -> None:
        if value is not None and not (value == value[0]).all():
            found.setdefault(value.tobytes(), Term(text, value, plain))

    indices = list(places[0].indices)
    for name in fields:
        value = places[0].values.get(name)
        if not isinstance(value, list):
            add(name, _numeric(places, name))
    for name in fields:
        lists = [place.values.get(name) for place in places]
        if all(isinstance(one, list) and one for one in lists):
            for text, values in _of_lists(places, name, lists, indices):
                add(text, np.array(values, np.float64))
    for index in indices:
        at = [place.indices[index] for place in places]
        add(index, np.array(at, np.float64))
        if max(at) < len(POWERS):
            add(f"{POWERS}[{index}]", np.array([POWERS[one] for one in at], np.float64))
    return list(found.values())


def _of_lists(
    places: Sequence[Place], name: str, lists: Sequence[Any], indices: Sequence[str]
) -> Iterator[tuple[str, list[float]]]:
    """What an expression may take from a list: the element of an index, one at a fixed place, its length."""
    for index in indices:
        for shift, text in ((0, index), (-1, f"{index} - 1"), (1, f"{index} + 1")):
            at = [place.indices[index] + shift for place in places]
            if all(0 <= i < len(one) for i, one in zip(at, lists, strict=True)):
                values = [one[i] for i, one in zip(at, lists, strict=True)]
                if all(type(one) in (int, float) for one in values):
                    yield f"{name}[{text}]", values
    yield f"len({name})", [len(one) for one in lists]
    if all(len(one) <= len(POWERS) for one in lists):
        yield f"{POWERS}[len({name}) - 1]", [POWERS[len(one) - 1] for one in lists]
    if all(type(one) in (int, float) for many in lists for one in many):
        for place in range(min(len(one) for one in lists)):
            yield f"{name}[{place}]", [one[place] for one in lists]
        yield f"{name}[len({name}) - 1]", [one[-1] for one in lists]
        yield f"{name}[len({name}) - 2]", [one[-2] if len(one) > 1 else -1 for one in lists]
        yield f"sum({name})", [sum(one) for one in lists]


def _combined(terms: list[Term], target: Vector) -> str | None:
    """The shortest combination of up to three terms and a constant or two."""
    if not terms:
        return None
    # Places that look alike to every term are one.
    every = np.stack([*(one.value for one in terms), target])
    _, first = np.unique(every, axis=1, return_index=True)
    target = target[first]
    terms = [Term(one.text, one.value[first], one.plain) for one in terms][:MANY]
    for one in terms:
        found = _closed(one, target)
        if found is not None:
            return found
    pairs: list[Term] = []
    for one in _operations(terms, terms, target, pairs if len(terms) <= FEW else None):
        found = _closed(one, target)
        if found is not None:
            return found
    for a, b in combinations(terms[:8], 2):
        found = _linear(a, b, target)
        if found is not None:
            return found
    found = _square(terms, target)
    if found is not None:
        return found
    for other in (terms, pairs[:SOME]) if pairs else ():
        for one in _operations(pairs, other, target, None):
            found = _closed(one, target)
            if found is not None:
                return found
    return None


def _square(terms: list[Term], target: Vector) -> str | None:
    """A square, perhaps with a few more: patches of a picture and a class token, distances in a window."""
    for more in range(4):
        root = np.round(np.sqrt(np.maximum(target - more, 0)))
        if (root * root + more == target).all() and not (root == root[0]).all():
            for one in (*terms, *_operations(terms, terms, root, None)):
                side = _closed(one, root)
                if side is not None:
                    return _plus(f"({side}) * ({side})", more)
    return None


def _operations(
    left: list[Term], right: list[Term], target: Vector, kept: list[Term] | None
) -> Iterator[Term]:
    """The combinations of two terms that may be the target but for constants; all go into ``kept``."""
    a = np.stack([one.value for one in left])[:, None, :]
    b = np.stack([one.value for one in right])[None, :, :]
    shape = np.broadcast_shapes(a.shape, b.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        product = a * b
        values = {
            "{0} * {1}": product,
            "{2} + {3}": a + b,
            "{2} - {1}": a - b,
            "{3} - {0}": b - a,
            "{0} // {1}": np.floor(a / b),
            "{1} // {0}": np.floor(b / a),
            "int({0} * {1})": np.floor(product),
        }
    for text, value in values.items():
        rows = value.reshape(-1, shape[-1])
        wanted = range(len(rows)) if kept is not None else np.flatnonzero(_near(rows, target))
        near = _near(rows, target) if kept is not None else None
        for row in wanted:
            if not np.isfinite(rows[row]).all():
                continue
            one, other = left[row // len(right)], right[row % len(right)]
            whole = (rows[row] == np.floor(rows[row])).all()
            if (one.text == other.text and text != "{0} * {1}") or not whole:
                continue
            if text.startswith("int") and (one.value * other.value == rows[row]).all():
                continue
            plain = "+" not in text and " - " not in text
            names = (one.factor, other.divisor, one.text, other.text)
            if text == "{1} // {0}":
                names = (one.divisor, other.factor, "", "")
            elif "//" not in text:
                # A product is read from the left: a // b * (c // d).
                names = (one.factor, other.divisor, one.text, other.text)
            term = Term(text.format(*names), rows[row], plain)
            if kept is not None:
                kept.append(term)
            if near is None or near[row]:
                yield term


def _near(rows: Any, target: Vector) -> Any:
    """Which rows are the target after a product and a sum with constants, or a division by a small number."""
    low, high = int(np.argmin(target)), int(np.argmax(target))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (target[high] - target[low]) / (rows[:, high] - rows[:, low])
        rest = target - slope[:, None] * rows
        near = np.abs(rest - rest[:, :1]).max(axis=1) < 1e-6 * max(1.0, float(target[high]))
        for divisor in DIVISORS:
            near |= (np.floor(rows / divisor) == target).all(axis=1)
            near |= (np.floor((rows + divisor - 1) / divisor) == target).all(axis=1)
    return near


def _closed(term: Term, target: Vector) -> str | None:
    """The target from one term and at most two constants, or None."""
    value = term.value
    if (value == target).all():
        return term.text
    if (value == value[0]).all():
        return None
    differences = target - value
    if (differences == differences[0]).all() and differences[0] == int(differences[0]):
        return _plus(term.text, int(differences[0]))
    high, low = int(np.argmax(value)), int(np.argmin(value))
    slope = (target[high] - target[low]) / (value[high] - value[low])
    if slope == 0:
        return None
    if slope == int(slope):
        rest = target - slope * value
        if (rest == rest[0]).all() and rest[0] == int(rest[0]):
            if slope < 0:
                return f"{int(rest[0])} - {term.factor}" if slope == -1 else None
            return _plus(f"{int(slope)} * {term.factor}", int(rest[0]))
    for divisor in dict.fromkeys((round(1 / slope), *DIVISORS) if slope > 0 else ()):
        if divisor > 1:
            for shift in (0, 1, divisor - 1):
                whole = np.floor((value + shift) / divisor)
                rest = target - whole
                if (rest == rest[0]).all():
                    inner = term.factor if not shift else f"({term.text} + {shift})"
                    return _plus(f"{inner} // {divisor}", int(rest[0]))
    if slope > 0:
        for scale in (1.5, 8 / 3, 4 / 3, 2 / 3, 0.75, 2.5):
            if (np.floor(value * scale) == target).all():
                return f"int({term.factor} * {scale!r})"
    return None


def _linear(a: Term, b: Term, target: Vector) -> str | None:
    """``m * a + n * b + c`` with whole numbers."""
    matrix = np.stack([a.value, b.value, np.ones_like(target)], axis=1)
    if np.linalg.matrix_rank(matrix) < 3:
        return None
    solution, *_ = np.linalg.lstsq(matrix, target, rcond=None)
    m, n, c = (round(one) for one in solution)
    if m <= 0 or n == 0 or not (matrix @ np.array([m, n, c]) == target).all():
        return None
    first = a.text if m == 1 else f"{m} * {a.factor}"
    second = b.factor if abs(n) == 1 else f"{abs(n)} * {b.factor}"
    return _plus(f"{first} {'+' if n > 0 else '-'} {second}", c)


def _plus(text: str, number: int) -> str:
    if number == 0:
        return text
    return f"{text} {'+' if number > 0 else '-'} {abs(number)}"


def _splits(places: list[Place], fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Conditions that tell cases apart."""
    for name in fields:
        values: list[Any] = [place.values.get(name) for place in places]
        if any(isinstance(one, (bool, type(None))) for one in values) or 0 in values:
            yield name, np.array([bool(one) for one in values], bool)
        if any(isinstance(one, str) for one in values):
            for text in sorted({one for one in values if isinstance(one, str)}):
                yield f"{name} == {text!r}", np.array([one == text for one in values], bool)
    for index in places[0].indices:
        at = np.array([place.indices[index] for place in places])
        yield f"{index} > 0", at > 0
        yield f"{index} > 1", at > 1
        for name in fields:
            whole: list[Any] = [place.values.get(name) for place in places]
            if all(type(one) is int for one in whole):
                yield f"{index} < {name} - 1", at < np.array(whole) - 1
                yield f"{index} < {name}", at < np.array(whole)
            elif all(isinstance(one, list) for one in whole):
                lengths = np.array([len(one) for one in whole])
                yield f"{index} < len({name}) - 1", at < lengths - 1
                if all(i < len(one) for i, one in zip(at, whole, strict=True)):
                    items = [one[i] for i, one in zip(at, whole, strict=True)]
                    for item in sorted({one for one in items if isinstance(one, str)})[:3]:
                        yield f"{name}[{index}] == {item!r}", np.array([o == item for o in items])


def _conditions(places: list[Place], fields: list[str]) -> Iterator[tuple[str, Any]]:
    """Conditions over fields and indices."""
    yield from _of_fields(places, fields)
    yield from _of_indices(places, fields)
    numbers = {name: value for name in fields if (value := _numeric(places, name)) is not None}
    for a, b in combinations(list(numbers)[:24], 2):
        yield f"{a} != {b}", numbers[a] != numbers[b]
        yield f"{a} == {b}", numbers[a] == numbers[b]
        yield f"{a} > {b}", numbers[a] > numbers[b]
        yield f"{b} > {a}", numbers[b] > numbers[a]


def _of_fields(places: list[Place], fields: list[str]) -> Iterator[tuple[str, Any]]:
    for name in fields:
        values: list[Any] = [place.values.get(name) for place in places]
        truth = np.array([bool(one) for one in values], bool)
        yield name, truth
        yield f"not {name}", ~truth
        if all(type(one) is int for one in values):
            numbers = np.array(values)
            for bound in sorted(set(numbers.tolist()))[:-1][:4]:
                yield f"{name} > {bound}", numbers > bound
                yield f"{name} <= {bound}", numbers <= bound
        for text in sorted({one for one in values if isinstance(one, str)}):
            equal = np.array([one == text for one in values], bool)
            yield f"{name} == {text!r}", equal
            yield f"{name} != {text!r}", ~equal
        lists = [one for one in values if isinstance(one, list)]
        if len(lists) == len(values):
            for item in sorted({one for many in lists for one in many if isinstance(one, str)}):
                yield f"{item!r} in {name}", np.array([item in one for one in lists], bool)


def _of_indices(places: list[Place], fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for index in places[0].indices:
        at = np.array([place.indices[index] for place in places])
        for number in sorted(set(at.tolist()))[:4]:
            yield f"{index} == {number}", at == number
            yield f"{index} != {number}", at != number
        yield f"{index} > 1", at > 1
        for step in (2, 3, 4):
            for rest in range(step):
                yield f"{index} % {step} == {rest}", at % step == rest
        for name in fields:
            yield from _index_and_field(places, index, at, name)
        for other in places[0].indices:
            if other != index:
                than = np.array([place.indices[other] for place in places])
                yield f"{index} > {other}", at > than


def _index_and_field(
    places: list[Place], index: str, at: Any, name: str
) -> Iterator[tuple[str, Any]]:
    values: list[Any] = [place.values.get(name) for place in places]
    if all(type(one) is int for one in values):
        numbers = np.array(values)
        for shift in (0, 1, 2):
            bound = numbers - shift
            text = _plus(name, -shift)
            yield f"{index} < {text}", at < bound
            yield f"{index} >= {text}", at >= bound
            yield f"{index} == {text}", at == bound
            yield f"{index} != {text}", at != bound
        if (numbers > 0).all():
            for rest in (0, 1):
                shifted = index if not rest else f"({index} + 1)"
                yield f"{shifted} % {name} == 0", (at + rest) % numbers == 0
                yield f"{shifted} % {name} != 0", (at + rest) % numbers != 0
            yield f"{index} % {name} == {name} - 1", at % numbers == numbers - 1
            yield f"{index} % {name} == {name} // 2", at % numbers == numbers // 2
    if all(isinstance(one, list) for one in values):
        last = np.array([len(one) - 1 for one in values])
        yield f"{index} < len({name}) - 1", at < last
        yield f"{index} == len({name}) - 1", at == last
        yield f"{index} in {name}", np.array([i in one for i, one in zip(at, values, strict=True)])
        yield (
            f"{index} not in {name}",
            np.array([i not in one for i, one in zip(at, values, strict=True)]),
        )
        if all(i < len(one) for i, one in zip(at, values, strict=True)):
            items = [one[i] for i, one in zip(at, values, strict=True)]
            yield f"{name}[{index}]", np.array([bool(one) for one in items])
            yield f"not {name}[{index}]", np.array([not one for one in items])
            for item in sorted({one for one in items if isinstance(one, str)}):
                yield f"{name}[{index}] == {item!r}", np.array([one == item for one in items])
                yield f"{name}[{index}] != {item!r}", np.array([one != item for one in items])


def _match(terms: Iterable[tuple[str, Any]], target: Any) -> str | None:
    """The first condition that is the target, or two that are it together."""
    kept: dict[bytes, tuple[str, Any]] = {}
    for text, holds in terms:
        if (holds == target).all():
            return text
        if holds.any() and not holds.all():
            kept.setdefault(holds.tobytes(), (text, holds))
    wider = [one for one in kept.values() if (one[1] >= target).all()]
    narrower = [one for one in kept.values() if (one[1] <= target).all()]
    for (a, first), (b, second) in combinations(wider, 2):
        if ((first & second) == target).all():
            return f"({a}) and ({b})"
    for (a, first), (b, second) in combinations(narrower, 2):
        if ((first | second) == target).all():
            return f"({a}) or ({b})"
    for (a, first), (b, second), (c, third) in combinations(wider[:40], 3):
        if ((first & second & third) == target).all():
            return f"({a}) and ({b}) and ({c})"
    for (a, first), (b, second), (c, third) in combinations(narrower[:40], 3):
        if ((first | second | third) == target).all():
            return f"({a}) or ({b}) or ({c})"
    for a, first in wider:
        for (b, second), (c, third) in combinations(list(kept.values())[:60], 2):
            if ((first & (second | third)) == target).all():
                return f"({a}) and ({b} or {c})"
    return None
