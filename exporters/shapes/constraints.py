"""What is said of sizes in SymPy, PyTorch's way, in the notation of JAX's constraints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JAX_FUNCTIONS = {
    "FloorDiv": "floordiv",
    "CleanDiv": "floordiv",
    "Mod": "mod",
    "PythonMod": "mod",
    "Max": "max",
    "Min": "min",
}
"""Classes of SymPy and of PyTorch -> JAX's names."""


def to_jax_constraint(condition: Any, named: Mapping[Any, Any]) -> str | None:
    """A condition as a constraint; None if it is none that JAX can be told.

    Args:
        condition: A relation of sizes.
        named: Its symbols -> what JAX knows them by.

    >>> import sympy
    >>> n = sympy.Symbol("s0", integer=True)
    >>> constraint(n < 78, {n: sympy.Symbol("length")}), constraint(sympy.Ne(n, 3), {n: n})
    ('length <= 77', None)
    """
    kind = type(condition).__name__
    if kind not in _RELATIONS:
        return None
    sign, more_left, more_right = _RELATIONS[kind]
    left, right = (side.subs(named).expand() for side in condition.args)
    left, right = left + more_left, right + more_right
    if sign == "==" and not _is_term(left):
        left, right = right, left
        if not _is_term(left):
            return None
    try:
        return f"{_to_text(left)} {sign} {_to_text(right)}"
    except KeyError:
        return None


_RELATIONS = {
    "Equality": ("==", 0, 0),
    "GreaterThan": (">=", 0, 0),
    "StrictGreaterThan": (">=", 0, 1),
    "LessThan": ("<=", 0, 0),
    "StrictLessThan": ("<=", 0, -1),
}
"""Classes of relations -> JAX's sign, and what is added left and right of it."""


def _is_term(expression: Any) -> bool:
    """Whether it may stand left of an equality: JAX puts what is right of it in its place."""
    return bool(expression.free_symbols) and not expression.is_Add


def _to_text(expression: Any) -> str:
    if expression.is_Add:
        terms = sorted(expression.args, key=lambda one: (one.is_Number, str(one)))
        return " + ".join(map(_to_text, terms)).replace("+ -", "- ")
    if expression.is_Mul:
        return "*".join(map(_to_text, sorted(expression.args, key=lambda one: not one.is_Number)))
    if expression.is_Integer or expression.is_Symbol:
        return str(expression)
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return "*".join([_to_text(expression.base)] * int(expression.exp))
    name = JAX_FUNCTIONS[type(expression).__name__]
    parts = [_to_text(one.expand()) for one in expression.args]
    if name in ("max", "min"):  # SymPy keeps these in no order.
        parts.sort()
    found = parts[0]
    for part in parts[1:]:
        found = f"{name}({found}, {part})"
    return found
