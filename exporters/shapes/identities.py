"""Sizes that are equal whatever the inputs, though JAX, which compares them by their text, does not see it.

PyTorch writes one length as ``ceil(n / 64) * 64`` here and as ``n + (-n) % 64`` there. Where an operator fails over that, the
sizes at hand are compared by their values, and what is always equal is stated in the scope of the next attempt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise, product
from typing import Any

from equipoise.exporters.lowering.dims import is_symbolic, max_dim, min_dim

MAX_SIZES_COMPARED = 40
"""Sizes of one operator that are compared with each other."""
MAX_SIZE = 2**31
"""What no size is longer than."""
MAX_STEPS_FROM_TRACED = 1500
"""As many sizes beyond the traced one are looked at."""
SAMPLE_SIZES = (*range(1, 10), *(2**power + step for power in range(4, 14) for step in (-1, 0, 1)))
"""Values of one symbol; of several, those of a lattice of these."""
SAMPLE_SIZES_OF_SEVERAL = (1, 2, 5, 9, 64, 65, 513, 1000, 4097, 10_007)


def sizes_met(node: Any, values: Iterable[Any], symbols: Mapping[str, Any]) -> list[Any]:
    """The sizes that an operator met: those of its arguments, and of its result as PyTorch has them.

    Args:
        node: Of the graph.
        values: The operator's arguments.
        symbols: PyTorch's symbols as sizes of JAX.
    """
    found = [size for value in values for size in _sizes_in(value)]
    found += sorted({size for value in values for size in _plain_sizes_in(value)})
    foreseen = node.meta.get("val")
    shape = [_to_jax(size, symbols) for size in getattr(foreseen, "shape", ())]
    found += [size for size in shape if is_symbolic(size)]
    found += [
        one * other
        for one, other in pairwise(shape)
        if one is not None and other is not None and (is_symbolic(one) or is_symbolic(other))
    ]
    unique = {str(size): size for size in found}
    return list(unique.values())[:MAX_SIZES_COMPARED]


def _sizes_in(value: Any) -> Iterator[Any]:
    if is_symbolic(value):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _sizes_in(one)
    else:
        yield from (size for size in getattr(value, "shape", ()) if is_symbolic(size))


def _plain_sizes_in(value: Any) -> Iterator[int]:
    """The plain sizes."""
    many = value if isinstance(value, (list, tuple)) else getattr(value, "shape", ())
    yield from (size for size in many if type(size) is int and size > 0)


def torch_symbols(nodes: Iterable[Any], values: Iterable[Any]) -> dict[str, Any]:
    """PyTorch's symbols -> JAX's sizes, from the inputs of a graph."""
    found: dict[str, Any] = {}
    for node, value in zip(nodes, values, strict=True):
        foreseen = getattr(node.meta.get("val"), "shape", ())
        for theirs, ours in zip(foreseen, getattr(value, "shape", ()), strict=False):
            if not isinstance(theirs, int) and theirs.node.expr.is_Symbol:
                found.setdefault(str(theirs.node.expr), ours)
    return found


def _to_jax(size: Any, symbols: Mapping[str, Any]) -> Any:
    """PyTorch's size as one of JAX, or None where it has an operation that JAX lacks."""
    if isinstance(size, int):
        return size
    return _expression_to_jax(size.node.expr, symbols)


def _expression_to_jax(expression: Any, symbols: Mapping[str, Any]) -> Any:
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        return symbols.get(str(expression))
    parts = [_expression_to_jax(one, symbols) for one in expression.args]
    if any(one is None for one in parts):
        return None
    match type(expression).__name__:
        case "Add":
            return sum(parts[1:], parts[0])
        case "Mul":
            return math.prod(parts[1:], start=parts[0])
        case "FloorDiv" | "CleanDiv" if not is_symbolic(parts[1]):
            return parts[0] // parts[1]
        case "Mod" | "PythonMod" if not is_symbolic(parts[1]):
            return parts[0] % parts[1]
        case "Max" if len(parts) == 2:
            return max_dim(*parts)
        case "Min" if len(parts) == 2:
            return min_dim(*parts)
    return None


def find_identities(
    sizes: Sequence[Any], constraints: Sequence[str], traced: Mapping[str, int]
) -> list[str]:
    """What of these sizes is always equal, as constraints of JAX: a term on the left, what it is on the right.

    Sizes that are equal between two lengths, as the traced one is, are so under constraints of these lengths. At last the
    sizes at hand may be said not to be empty.

    Args:
        sizes: Sizes of JAX, and numbers.
        constraints: What is stated already; equalities of it are not stated again.
        traced: The sizes by symbol that PyTorch was shown.
    """
    spans = _bounds(constraints)
    plain = [size for size in sizes if not _has_symbolic_divisor(size)]
    differences = [one - other for one, other in combinations(plain, 2) if is_symbolic(one - other)]
    found: list[str] = []
    begun = {one.partition(" == ")[0] for one in constraints}
    for difference in differences:
        stated = _as_equality(difference) if _always_zero(difference, spans) else None
        if stated is not None and stated.partition(" == ")[0] not in begun:
            begun.add(stated.partition(" == ")[0])
            found.append(stated)
    if found:
        return found
    equal = [(one, range(1)) for one in differences]
    filled = [(size, range(1, MAX_SIZE)) for size in sizes if is_symbolic(size)]
    for size, among in (*equal, *filled):
        lengths = _interval_constraints(size, among, spans, traced)
        if set(lengths) - set(constraints):
            return lengths
    return []


def _bounds(constraints: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The least and the largest size that constraints leave to a symbol."""
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


def _always_zero(size: Any, spans: Mapping[str, tuple[int, int]]) -> bool:
    names = sorted(size._get_vars())  # JAX has no public name for it
    if len(names) > 4:
        return False
    given = SAMPLE_SIZES if len(names) == 1 else SAMPLE_SIZES_OF_SEVERAL
    values = []
    for name in names:
        low, high = spans.get(name, (1, MAX_SIZE))
        inside = [one for one in given if low <= one <= high]
        values.append([*inside, *(low + one for one in given if low + one <= high)])
    defined = False
    for at in product(*values):
        value = _value_or_none(size, dict(zip(names, at, strict=True)))
        if value:
            return False
        defined |= value == 0
    return defined


def _interval_constraints(
    size: Any, among: range, spans: Mapping[str, tuple[int, int]], traced: Mapping[str, int]
) -> list[str]:
    """The constraints under which a size of one symbol is among some: as at the traced length, and around it."""
    names = sorted(size._get_vars())
    if len(names) != 1 or names[0] not in traced:
        return []
    name = names[0]
    low, high = spans.get(name, (1, MAX_SIZE))
    last = min(high, traced[name] + MAX_STEPS_FROM_TRACED)
    if _value_or_none(size, {name: traced[name]}) not in among:
        return []
    least = most = traced[name]
    while least > low and _value_or_none(size, {name: least - 1}) in among:
        least -= 1
    while most < last and _value_or_none(size, {name: most + 1}) in among:
        most += 1
    if most == least:
        return []  # only the traced length itself
    found = [f"{name} >= {least}"] if least > low else []
    return [*found, f"{name} <= {most}"] if most < last else found


def _has_symbolic_divisor(size: Any) -> bool:
    """Whether there is a quotient of two open sizes: JAX asks of each whether it divides by nought, and cannot say."""
    if not is_symbolic(size):
        return False
    operations = [
        one for term, _ in size._sorted_terms for one, _ in term._factors if one.operation
    ]
    return any(
        (one.operation in ("floordiv", "mod") and is_open(one.operands[1]))
        or any(map(_has_symbolic_divisor, one.operands))
        for one in operations
    )


def is_open(size: Any) -> bool:
    """Whether a size has symbols; within a size JAX writes numbers as sizes too."""
    return is_symbolic(size) and bool(size._get_vars())


def _as_equality(difference: Any) -> str | None:
    """The most involved operation of a sum that is nought, and what it is then."""
    operations = [
        (term, count)
        for term, count in difference._sorted_terms
        if abs(count) == 1 and any(factor.operation for factor, _ in term._factors)
    ]
    if not operations:
        return None
    term, count = max(operations, key=lambda one: len(str(one[0])))
    left = type(difference)._from_term(term, 1, difference.scope)
    right = left - difference if count == 1 else left + difference
    return f"{left} == {right}"


def _value_or_none(size: Any, at: Mapping[str, int]) -> int | None:
    """A size's value, or None where it would be divided by nought: no program has such sizes."""
    try:
        return value_of(size, at)
    except ZeroDivisionError:
        return None


def value_of(size: Any, at: Mapping[str, int]) -> int:
    """A size's value where its symbols have these."""
    if not is_symbolic(size):
        return int(size)
    return sum(
        count * math.prod(_factor_value(factor, at) ** power for factor, power in term._factors)
        for term, count in size._sorted_terms
    )


def _factor_value(factor: Any, at: Mapping[str, int]) -> int:
    if factor.operation is None:
        return at[factor.var]
    first, second = (value_of(one, at) for one in factor.operands)
    match factor.operation:
        case "floordiv":
            return first // second
        case "mod":
            return first % second
        case "max":
            return max(first, second)
    return min(first, second)
