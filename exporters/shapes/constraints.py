"""Translates conditions on sizes from SymPy, as PyTorch states them, to the notation of JAX's constraints."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.convert.core.framework_types import SympyExpr, SympySymbol

JAX_FUNCTIONS = {
    "FloorDiv": "floordiv",
    "CleanDiv": "floordiv",
    "Mod": "mod",
    "PythonMod": "mod",
    "Max": "max",
    "Min": "min",
}
"""Classes of SymPy and of PyTorch -> JAX's names."""


def to_jax_constraint(condition: SympyExpr, names: Mapping[SympySymbol, SympyExpr]) -> str | None:
    """Returns a condition as a constraint of JAX; None if JAX has no such constraint.

    Args:
        condition: A relation of sizes.
        names: Its symbols -> what JAX knows them by.

    >>> import sympy
    >>> n = sympy.Symbol("s0", integer=True)
    >>> to_jax_constraint(n < 78, {n: sympy.Symbol("length")}), to_jax_constraint(sympy.Ne(n, 3), {n: n})
    ('length <= 77', None)
    """
    kind = type(condition).__name__
    if kind not in _RELATIONS:
        return None
    sign, add_left, add_right = _RELATIONS[kind]
    left, right = (side.subs(names).expand() for side in condition.args)
    left, right = left + add_left, right + add_right
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
"""Classes of relations -> JAX's sign, and what is added to the left and to the right of it."""


def _is_term(expression: SympyExpr) -> bool:
    """Checks whether an expression may be the left side of an equality: JAX replaces it by the right side."""
    return bool(expression.free_symbols) and not expression.is_Add


def _to_text(expression: SympyExpr) -> str:
    """Writes an expression in JAX's notation: sums, products and functions.

    Raises:
        KeyError: JAX has no such function.
    """
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
    if name in ("max", "min"):  # SymPy does not keep the order of their arguments.
        parts.sort()
    text = parts[0]
    for part in parts[1:]:
        text = f"{name}({text}, {part})"
    return text
