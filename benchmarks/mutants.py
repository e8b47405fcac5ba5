"""Makes mutants of a module: copies of its source with one small mistake each."""

from __future__ import annotations

import ast
import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}


_PAIRS = (
    *(("max", "min"), ("maximum", "minimum"), ("argmax", "argmin"), ("amax", "amin")),
    *(("any", "all"), ("sum", "prod"), ("mean", "sum"), ("cumsum", "cumprod")),
    *(("cumlogsumexp", "cumsum"), ("floor", "ceil"), ("round", "floor"), ("trunc", "round")),
    *(("sin", "cos"), ("real", "imag"), ("rsqrt", "sqrt"), ("expm1", "exp"), ("erf", "tanh")),
    *(("greater_equal", "greater"), ("less_equal", "less"), ("softmax", "log_softmax")),
    *(("remainder", "fmod"), ("fftn", "ifftn"), ("rfftn", "fftn"), ("irfftn", "ifftn")),
    *(("isnan", "isinf"), ("max_dim", "min_dim"), ("zeros", "ones"), ("pad", "roll")),
    *(("int64", "int32"), ("float32", "float64"), ("complex64", "complex128"), ("flip", "roll")),
    *(("div", "rem"), ("floor_divide", "divide"), ("swapaxes", "moveaxis"), ("power", "multiply")),
)
CONFUSABLE_NAMES = {other: one for one, other in _PAIRS} | dict(_PAIRS)
"""Functions and dtypes that are easily confused with each other."""
INERT_KEYWORDS = ("strict", "precision")
"""Keywords that change no result on a CPU: a check, and a precision that only other devices use."""


DESCRIBED_NODES = (ast.expr, ast.stmt, ast.keyword, ast.arguments)
"""Kinds of nodes whose source is used to describe a mistake."""
ARRAY_MODULES = ("jnp", "lax", "special", "jax.nn")
"""Modules of array functions: a call with one argument may be replaced by its argument."""
COMMUTATIVE_FUNCTIONS = (
    *("max", "min", "maximum", "minimum", "max_dim", "min_dim", "multiply", "clip"),
    *("promote_types", "result_dtype", "result_type", "broadcast_shapes"),
)
"""Functions whose first two arguments can be swapped without a change."""
COMMUTATIVE_BUILTINS = ("max", "min")
"""Those of COMMUTATIVE that are commutative only as Python's builtins; the array functions take an axis second."""


@dataclass(frozen=True)
class Mutant:
    """A module with one mistake.

    Attributes:
        unit: The function with the mistake; ``[key]`` for a table of operators, ``table[key]`` for another table.
        what: The source of the change, before and after; unique among the mistakes of the unit.
        tree: The module's syntax tree.
        source: The function without the mistake; empty for a table.
    """

    unit: str
    what: str
    tree: ast.Module
    source: str = ""


def make_mutants(source: str) -> Iterator[Mutant]:
    """Yields every mutant of a module's functions and tables of functions."""
    module = ast.parse(source)
    for place, node in enumerate(module.body):
        if isinstance(node, ast.FunctionDef):
            yield from _function_mutants(module, place, node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            yield from _table_mutants(module, place, node)


def _function_mutants(module: ast.Module, place: int, node: ast.FunctionDef) -> Iterator[Mutant]:
    changes = [*_function_changes(node)] or [*_return_changes(node)]
    made = [_apply_change(node, where, change) for where, change in changes]
    source = ast.unparse(node)
    texts = _unique_descriptions([chain for _, chain in made])
    for changed, what in zip((changed for changed, _ in made), texts, strict=True):
        tree = copy.copy(module)
        tree.body = [*module.body[:place], changed, *module.body[place + 1 :]]
        yield Mutant(node.name, what, ast.fix_missing_locations(tree), source)


def _apply_change(
    function: ast.FunctionDef, where: int, change: Callable[[Any], None]
) -> tuple[ast.FunctionDef, list[str]]:
    """Returns a copy of the function with a mistake, and descriptions of it: the node alone, then each node around it."""
    made = copy.deepcopy(function)
    node = list(ast.walk(made))[where]
    around = _enclosing_nodes(made, node)
    before = [ast.unparse(one) for one in around]
    change(node)
    after = [ast.unparse(one) for one in around]
    return made, [_describe_difference(*pair) for pair in zip(before, after, strict=True)]


def _enclosing_nodes(function: ast.FunctionDef, node: ast.AST) -> list[ast.AST]:
    above = {
        id(inner): outer for outer in ast.walk(function) for inner in ast.iter_child_nodes(outer)
    }
    found = [node]
    while id(found[-1]) in above:
        found.append(above[id(found[-1])])
    return [one for one in found if isinstance(one, DESCRIBED_NODES)]


def _describe_difference(before: str, after: str) -> str:
    """Returns ``before -> after``, shortened where both texts are equal."""
    before, after = (" ".join(one.split()) for one in (before, after))
    if max(len(before), len(after)) > 90:
        same = itertools.takewhile(
            lambda pair: pair[0] == pair[1], zip(before, after, strict=False)
        )
        at = len(list(same))
        head = max(at - 30, 0)
        before, after = (("..." if head else "") + one[head : at + 60] for one in (before, after))
    return f"{before} -> {after}"


def _unique_descriptions(chains: list[list[str]]) -> list[str]:
    """Returns a unique description of each mistake: the innermost one that no other mistake has."""
    times = Counter(text for chain in chains for text in set(chain))
    found, seen = [], Counter[str]()
    for chain in chains:
        text = next((one for one in chain[1:] if times[one] == 1), chain[-1])
        text = chain[0] if " " in chain[0].partition(" -> ")[0] and times[chain[0]] == 1 else text
        seen[text] += 1
        found.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return found


def _table_mutants(module: ast.Module, place: int, node: Any) -> Iterator[Mutant]:
    """Yields mutants in which one entry of a table has the next different value."""
    # A table of operators has a type annotation; other tables belong to the functions that use them.
    name = "" if isinstance(node, ast.AnnAssign) else ast.unparse(node.targets[0])
    values = node.value.values
    texts = [ast.unparse(one) for one in values]
    for index, key in enumerate(node.value.keys):
        others = [other for other, text in enumerate(texts) if text != texts[index]]
        if not others or not isinstance(key, ast.Constant):
            continue
        other = next((one for one in others if one > index), others[0])
        tree = copy.deepcopy(module)
        table: Any = tree.body[place]
        table.value.values[index] = copy.deepcopy(values[other])
        yield Mutant(f"{name}[{key.value}]", f"{texts[index]} -> {texts[other]}", tree)


def _skipped_nodes(function: ast.FunctionDef) -> set[int]:
    """Returns the ids of nodes that are not mutated: annotations, decorators and error messages."""
    nodes: list[ast.AST] = [*function.decorator_list]
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation:
            nodes.append(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns:
            nodes.append(node.returns)
        if isinstance(node, ast.AnnAssign):
            nodes.append(node.annotation)
        if isinstance(node, ast.Raise) or (
            isinstance(node, ast.keyword) and node.arg in INERT_KEYWORDS
        ):
            nodes.append(node)
    return {id(inner) for node in nodes for inner in ast.walk(node)}


def _function_changes(function: ast.FunctionDef) -> Iterator[tuple[int, Callable[[Any], None]]]:
    skipped = _skipped_nodes(function)
    for where, node in enumerate(ast.walk(function)):
        if id(node) not in skipped:
            for change in _node_changes(node):
                yield where, change


def _return_changes(function: ast.FunctionDef) -> Iterator[tuple[int, Callable[[Any], None]]]:
    """Yields doubled return values, for functions without any other mistake."""
    for where, node in enumerate(ast.walk(function)):
        if isinstance(node, ast.Return):
            yield where, _double_value


def _double_value(node: Any) -> None:
    node.value = ast.BinOp(node.value, ast.Add(), node.value)


def _node_changes(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield _set_attribute("op", ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for operator in COMPARISONS.get(type(node.ops[0]), ()):
            yield _set_attribute("ops", [operator(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield _set_attribute("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp):
        # The node cannot be replaced by its operand here; a unary plus does nothing instead.
        yield _set_attribute("op", ast.UAdd()) if isinstance(node.op, ast.USub) else _negate_twice
    elif isinstance(node, ast.Constant):
        yield from _constant_changes(node.value)
    elif isinstance(node, ast.Attribute) and node.attr in CONFUSABLE_NAMES:
        yield _set_attribute("attr", CONFUSABLE_NAMES[node.attr])
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        # Comparisons and boolean operations have mistakes of their own.
        if not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            yield _negate_test
    elif isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg and keyword.arg not in INERT_KEYWORDS:
                yield _drop_keyword(index)
        if isinstance(node.func, ast.Name) and node.func.id in CONFUSABLE_NAMES:
            yield _replace_function
        plain = not any(isinstance(one, ast.Starred) for one in node.args[:2])
        module, _, name = ast.unparse(node.func).rpartition(".")
        free = name in COMMUTATIVE_FUNCTIONS and not (module and name in COMMUTATIVE_BUILTINS)
        if name == "astype" and isinstance(node.func, ast.Attribute):
            yield _drop_cast
        elif len(node.args) == 1 and not node.keywords and plain and module in ARRAY_MODULES:
            yield _drop_call
        if len({ast.unparse(one) for one in node.args[:2]}) == 2 and plain and not free:
            yield _swap_arguments


def _constant_changes(value: Any) -> Iterator[Callable[[Any], None]]:
    if isinstance(value, bool):
        yield _set_attribute("value", not value)
    elif isinstance(value, int):
        yield _set_attribute("value", value + 1)
    elif isinstance(value, float):
        yield _set_attribute("value", value * 2 if value else 1.0)


def _set_attribute(name: str, value: Any) -> Callable[[Any], None]:
    return lambda node: setattr(node, name, value)


def _negate_twice(node: Any) -> None:
    """Changes ``not x`` to ``not not x`` and ``~x`` to ``~~x``."""
    node.operand = ast.UnaryOp(type(node.op)(), node.operand)


def _drop_keyword(index: int) -> Callable[[Any], None]:
    return lambda node: node.keywords.pop(index)


def _replace_function(node: Any) -> None:
    node.func.id = CONFUSABLE_NAMES[node.func.id]


def _negate_test(node: Any) -> None:
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _drop_cast(node: Any) -> None:
    _replace_node(node, node.func.value)


def _drop_call(node: Any) -> None:
    _replace_node(node, node.args[0])


def _replace_node(node: Any, other: Any) -> None:
    """Replaces a node in place by another, because its parent is not known here."""
    node.__class__ = other.__class__
    node.__dict__ = other.__dict__


def _swap_arguments(node: Any) -> None:
    node.args[0], node.args[1] = node.args[1], node.args[0]


def find_users(source: str) -> dict[str, set[str]]:
    """Returns, for each function of a module, the functions that use it directly or indirectly, itself included."""
    module = ast.parse(source)
    uses: dict[str, set[str]] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            uses[node.name] = _used_names(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            uses[ast.unparse(target)] = _used_names(node)
    for node in module.body:
        if isinstance(node, ast.For):
            # A function that a loop applies to the entries of a table uses them.
            for name in _used_names(node) & uses.keys() - _used_names(node.iter):
                uses[name] |= _used_names(node.iter)
    found = {name: {name} for name in uses}
    for _ in uses:
        for name, inner in uses.items():
            for one in inner & found.keys():
                found[one].add(name)
                found[one] |= found[name]
    return found


def _used_names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
