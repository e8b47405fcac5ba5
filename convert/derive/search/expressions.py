"""Searches an expression whose values equal observed numbers, from combinations of config fields and indices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.convert.derive.search.sample_points import (
    SamplePoint,
    Vector,
    add_constant,
    numeric_values,
)

MAX_TERMS_IN_TRIPLES = 10
"""Up to this many terms, combinations of three are tried."""
MAX_PAIRS_COMBINED = 80
"""Largest number of pairs that are combined with each other."""
MAX_TERMS_IN_PAIRS = 48
"""Largest number of terms that are combined in pairs."""
POWERS_OF_TWO = [2**power for power in range(8)]
"""The expression language has no powers; a list of powers of two, indexed, replaces ``2 ** i``."""
ROUNDING_MULTIPLES = (8, 16, 32, 64, 128, 256)
DIVISORS = (2, 3, 4, 8, 16, 32)


@dataclass(frozen=True)
class Term:
    """Part of an expression with its value at every point; ``is_atomic`` terms need no parentheses as a factor."""

    text: str
    value: Vector
    is_atomic: bool = True

    @property
    def factor(self) -> str:
        """The text as a factor or dividend."""
        return self.text if self.is_atomic else f"({self.text})"

    @property
    def divisor(self) -> str:
        """The text as a divisor."""
        return f"({self.text})" if " " in self.text else self.text


def candidate_terms(points: list[SamplePoint], fields: Iterable[str]) -> list[Term]:
    """Returns fields, list elements, list lengths and indices with their values; terms with equal values once."""
    found: dict[bytes, Term] = {}

    def add(text: str, value: Vector | None, is_atomic: bool = True) -> None:
        if value is not None and not (value == value[0]).all():
            found.setdefault(value.tobytes(), Term(text, value, is_atomic))

    indices = list(points[0].indices)
    for name in fields:
        value = points[0].values.get(name)
        if not isinstance(value, list):
            add(name, numeric_values(points, name))
    for name in fields:
        lists = [point.values.get(name) for point in points]
        if all(isinstance(one, list) and one for one in lists):
            for text, values in _list_terms(points, name, lists, indices):
                add(text, np.array(values, np.float64))
    for index in indices:
        at = [point.indices[index] for point in points]
        add(index, np.array(at, np.float64))
        if max(at) < len(POWERS_OF_TWO):
            add(
                f"{POWERS_OF_TWO}[{index}]",
                np.array([POWERS_OF_TWO[one] for one in at], np.float64),
            )
    return list(found.values())


def _list_terms(
    points: Sequence[SamplePoint], name: str, lists: Sequence[Any], indices: Sequence[str]
) -> Iterator[tuple[str, list[float]]]:
    """Yields the terms of a list: elements at an index or a fixed position, its length and sum."""
    for index in indices:
        back = [
            len(one) - 1 - point.indices[index] for one, point in zip(lists, points, strict=True)
        ]
        if min(back) >= 0 and all(type(one) in (int, float) for many in lists for one in many):
            values = [one[i] for i, one in zip(back, lists, strict=True)]
            yield (
                f"{name}[len({name}) - 1 - {index}]",
                values,
            )  # decoders often use an encoder's list in reverse
        for shift, text in ((0, index), (-1, f"{index} - 1"), (1, f"{index} + 1")):
            at = [point.indices[index] + shift for point in points]
            if all(0 <= i < len(one) for i, one in zip(at, lists, strict=True)):
                values = [one[i] for i, one in zip(at, lists, strict=True)]
                if all(type(one) in (int, float) for one in values):
                    yield f"{name}[{text}]", values
    yield f"len({name})", [len(one) for one in lists]
    if all(len(one) <= len(POWERS_OF_TWO) for one in lists):
        yield f"{POWERS_OF_TWO}[len({name}) - 1]", [POWERS_OF_TWO[len(one) - 1] for one in lists]
    if all(type(one) in (int, float) for many in lists for one in many):
        for point in range(min(len(one) for one in lists)):
            yield f"{name}[{point}]", [one[point] for one in lists]
        yield f"{name}[len({name}) - 1]", [one[-1] for one in lists]
        yield f"{name}[len({name}) - 2]", [one[-2] if len(one) > 1 else -1 for one in lists]
        yield f"sum({name})", [sum(one) for one in lists]


def find_expression(terms: list[Term], target: Vector) -> str | None:
    """Returns a short combination of up to three terms and two constants that equals the target, or None.

    >>> heads = Term("num_heads", np.array([2.0, 4.0, 2.0]))
    >>> size = Term("head_dim", np.array([8.0, 8.0, 16.0]))
    >>> find_expression([heads, size], np.array([49.0, 97.0, 97.0]))
    '3 * num_heads * head_dim + 1'
    """
    if not terms:
        return None
    # Points with equal values of all terms are merged.
    rows = np.stack([*(one.value for one in terms), target])
    _, first = np.unique(rows, axis=1, return_index=True)
    target = target[first]
    terms = [Term(one.text, one.value[first], one.is_atomic) for one in terms][:MAX_TERMS_IN_PAIRS]
    for one in terms:
        found = _close_with_constants(one, target)
        if found is not None:
            return found
    pairs: list[Term] = []
    for one in _combine_pairs(
        terms, terms, target, pairs if len(terms) <= MAX_TERMS_IN_TRIPLES else None
    ):
        found = _close_with_constants(one, target)
        if found is not None:
            return found
    products = [one for one in pairs if " * " in one.text and "//" not in one.text]
    found = _find_linear(terms[:8], target) or _find_linear(
        [*products[:MAX_PAIRS_COMBINED], *terms[:8]], target
    )
    if found is not None:
        return found
    found = _find_square(terms, target) or _find_rounded_up([*terms, *pairs], target)
    if found is not None:
        return found
    for other in (terms, pairs[:MAX_PAIRS_COMBINED]) if pairs else ():
        for one in _combine_pairs(pairs, other, target, None):
            found = _close_with_constants(one, target)
            if found is not None:
                return found
    return None


def _find_square(terms: list[Term], target: Vector) -> str | None:
    """Finds a square plus 0 to 3: the patches of an image and class tokens, the distances in a window."""
    for more in range(4):
        root: Vector = np.rint(np.sqrt(np.maximum(target - more, 0.0))).astype(np.float64)
        if (root * root + more == target).all() and not (root == root[0]).all():
            for one in (*terms, *_combine_pairs(terms, terms, root, None)):
                side = _close_with_constants(one, root)
                if side is not None:
                    return add_constant(f"({side}) * ({side})", more)
    return None


def _find_rounded_up(terms: list[Term], target: Vector) -> str | None:
    """Finds a size rounded up to a multiple of a power of two, as in gated MLPs."""
    values = np.stack([one.value for one in terms])
    for factor in (1, 2):
        for scale, text in ((1.0, "{0}"), (2 / 3, "int({1} * 2 / 3)")):
            scaled = np.floor(values * scale)
            for multiple in ROUNDING_MULTIPLES:
                up = np.floor((scaled + multiple - 1) / multiple) * multiple * factor
                for row in np.flatnonzero((up == target).all(axis=1)):
                    inner = text.format(terms[row].text, terms[row].factor)
                    integers = f"({inner} + {multiple - 1}) // {multiple} * {multiple}"
                    return integers if factor == 1 else f"{factor} * ({integers})"
    return None


def _combine_pairs(
    left: list[Term], right: list[Term], target: Vector, kept: list[Term] | None
) -> Iterator[Term]:
    """Yields combinations of two terms that may equal the target up to constants; adds all of them to ``kept``."""
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
        wanted = range(len(rows)) if kept is not None else np.flatnonzero(_may_match(rows, target))
        may_match = _may_match(rows, target) if kept is not None else None
        for row in wanted:
            if not np.isfinite(rows[row]).all():
                continue
            one, other = left[row // len(right)], right[row % len(right)]
            integers = (rows[row] == np.floor(rows[row])).all()
            if (one.text == other.text and text != "{0} * {1}") or not integers:
                continue
            if text.startswith("int") and (one.value * other.value == rows[row]).all():
                continue
            is_atomic = "+" not in text and " - " not in text
            names = (one.factor, other.divisor, one.text, other.text)
            if text == "{1} // {0}":
                names = (one.divisor, other.factor, "", "")
            elif "//" not in text:
                # Products associate to the left: a // b * (c // d).
                names = (one.factor, other.divisor, one.text, other.text)
            term = Term(text.format(*names), rows[row], is_atomic)
            if kept is not None:
                kept.append(term)
            if may_match is None or may_match[row]:
                yield term


def _may_match(rows: Any, target: Vector) -> Any:
    """Returns which rows may equal the target up to a factor and a summand, or a small divisor."""
    ends = [int(np.argmin(target)), int(np.argmax(target))]
    few = list(dict.fromkeys([*ends, *range(min(len(target), 4))]))
    # Few rows match, and a few columns exclude most of the others.
    found = _may_match_columns(rows[:, few], target[few])
    left = np.flatnonzero(found)
    found[left] = _may_match_columns(rows[left], target)
    return found


def _may_match_columns(rows: Any, target: Vector) -> Any:
    low, high = int(np.argmin(target)), int(np.argmax(target))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (target[high] - target[low]) / (rows[:, high] - rows[:, low])
        rest = target - slope[:, None] * rows
        may_match = np.abs(rest - rest[:, :1]).max(axis=1) < 1e-6 * max(1.0, float(target[high]))
        for divisor in DIVISORS:
            may_match |= (np.floor(rows / divisor) == target).all(axis=1)
            may_match |= (np.floor((rows + divisor - 1) / divisor) == target).all(axis=1)
    return may_match


def _close_with_constants(term: Term, target: Vector) -> str | None:
    """Returns an expression of one term and at most two constants that equals the target, or None."""
    value = term.value
    if (value == target).all():
        return term.text
    if (value == value[0]).all():
        return None
    differences = target - value
    if (differences == differences[0]).all() and differences[0] == int(differences[0]):
        return add_constant(term.text, int(differences[0]))
    high, low = int(np.argmax(value)), int(np.argmin(value))
    slope = (target[high] - target[low]) / (value[high] - value[low])
    if slope == 0:
        return None
    if slope == int(slope):
        rest = target - slope * value
        if (rest == rest[0]).all() and rest[0] == int(rest[0]):
            if slope < 0:
                return f"{int(rest[0])} - {term.factor}" if slope == -1 else None
            return add_constant(f"{int(slope)} * {term.factor}", int(rest[0]))
    for divisor in dict.fromkeys((round(1 / slope), *DIVISORS) if slope > 0 else ()):
        if divisor > 1:
            for shift in (0, 1, divisor - 1):
                integers = np.floor((value + shift) / divisor)
                rest = target - integers
                if (rest == rest[0]).all():
                    inner = term.factor if not shift else f"({term.text} + {shift})"
                    return add_constant(f"{inner} // {divisor}", int(rest[0]))
    if slope > 0:
        for scale in (1.5, 8 / 3, 4 / 3, 2 / 3, 0.75, 2.5):
            if (np.floor(value * scale) == target).all():
                return f"int({term.factor} * {scale!r})"
    return None


def _find_linear(terms: list[Term], target: Vector) -> str | None:
    """Finds ``m * a + n * b + c`` with integers, for two of the terms."""
    if len(terms) < 2:
        return None
    first, second = np.triu_indices(len(terms), 1)
    values = np.stack([one.value for one in terms])
    mean = values.mean(axis=1)
    centred, goal = values - mean[:, None], target - target.mean()
    products, onto = centred @ centred.T, centred @ goal
    aa, bb, ab = products[first, first], products[second, second], products[first, second]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = aa * bb - ab * ab
        m = np.rint((onto[first] * bb - onto[second] * ab) / area)
        n = np.rint((onto[second] * aa - onto[first] * ab) / area)
        c = np.rint(target.mean() - m * mean[first] - n * mean[second])
        flat = area <= 1e-9 * aa * bb
    for at in np.flatnonzero(~flat & (m > 0) & (n != 0)):
        a, b = terms[first[at]], terms[second[at]]
        if (m[at] * a.value + n[at] * b.value + c[at] == target).all():
            times, factor, rest = int(m[at]), int(n[at]), int(c[at])
            one = a.text if times == 1 else f"{times} * {a.factor}"
            other = b.factor if abs(factor) == 1 else f"{abs(factor)} * {b.factor}"
            return add_constant(f"{one} {'+' if factor > 0 else '-'} {other}", rest)
    return None
