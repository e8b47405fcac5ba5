"""Evaluates expressions over a config, e.g. ``hidden_size // 2 if gated else 4`` in an architecture file.

The language is a subset of Python's expressions. Python parses them; only these node types are evaluated:
names, dotted names, numbers, strings, lists, arithmetic, comparisons, ``and``/``or``/``not``, ``a if c else b``,
subscripts, slices ``x[a:b]``, lists ``[f for x in y]``, and ``len``, ``min``, ``max``, ``sum``, ``int``, ``range``, ``round``, ``split``. No other calls and no powers are allowed.

>>> evaluate("hidden_size // 2 if gated else 4", {"hidden_size": 64, "gated": True}.__getitem__)
32
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from equipoise.convert.core.errors import SpecError

Lookup = Callable[[str], Any]
"""Returns the value of a dotted name."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "min": min,
    "max": max,
    "sum": sum,
    "int": int,
    "range": lambda count: list(range(count)),
    "round": round,
    "split": lambda text, separator: str(text).split(separator),
}


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> ast.expr:
    """Parses an expression into Python's syntax tree.

    Raises:
        SpecError: The text is not an expression.
    """
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise SpecError(f"not an expression: {text!r}") from error


def dotted_names(node: ast.AST) -> Iterator[str]:
    """Yields the dotted names in an expression, except those of functions."""
    if isinstance(node, (ast.Attribute, ast.Name)):
        name = ast.unparse(node)
        if name not in _FUNCTIONS:
            yield name
        return
    for child in ast.iter_child_nodes(node):
        yield from dotted_names(child)


def evaluate(expression: str | ast.expr, lookup: Lookup) -> Any:
    """Evaluates an expression.

    Raises:
        SpecError: It uses syntax that the language does not have.
        TypeError, IndexError, ZeroDivisionError: As in Python; the caller adds the config to the message.
    """
    node = parse_expression(expression) if isinstance(expression, str) else expression
    return _evaluate_node(node, lookup)


def _evaluate_node(node: ast.expr, lookup: Lookup) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            return lookup(_dotted_name(node))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_evaluate_node(item, lookup) for item in items]
        case ast.Subscript(value=value, slice=ast.Slice(lower=low, upper=high, step=None)):
            ends = (None if end is None else _evaluate_node(end, lookup) for end in (low, high))
            return _evaluate_node(value, lookup)[slice(*ends)]
        case ast.Subscript(value=value, slice=index):
            return _evaluate_node(value, lookup)[_evaluate_node(index, lookup)]
        case ast.ListComp(
            elt=element,
            generators=[ast.comprehension(target=ast.Name(id=name), iter=items, ifs=[])],
        ):
            values = _evaluate_node(items, lookup)
            return [_evaluate_node(element, _with_value(lookup, name, one)) for one in values]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate_node(operand, lookup)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate_node(operand, lookup)
        case ast.BoolOp():
            return _evaluate_boolean(node, lookup)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _evaluate_node(body if _evaluate_node(test, lookup) else orelse, lookup)
        case _:
            return _evaluate_operation(node, lookup)


def _with_value(lookup: Lookup, name: str, value: Any) -> Lookup:
    """Returns a lookup in which one name has a value of its own."""
    return lambda other: value if other == name else lookup(other)


def _evaluate_operation(node: ast.expr, lookup: Lookup) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_evaluate_node(left, lookup), _evaluate_node(right, lookup))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](_evaluate_node(left, lookup), _evaluate_node(right, lookup))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_evaluate_node(arg, lookup) for arg in args))
        case _:
            raise SpecError(f"not allowed in an expression: {ast.unparse(node)!r}")


def _evaluate_boolean(node: ast.BoolOp, lookup: Lookup) -> Any:
    stop_at = isinstance(node.op, ast.Or)
    value: Any = None
    for item in node.values:
        value = _evaluate_node(item, lookup)
        if bool(value) is stop_at:
            return value
    return value


def _dotted_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted_name(value)}.{name}"
        case _:
            raise SpecError(f"not a dotted name: {ast.unparse(node)!r}")
