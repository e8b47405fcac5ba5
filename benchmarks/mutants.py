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
ALIKE = {other: one for one, other in _PAIRS} | dict(_PAIRS)
"""Functions and dtypes that are easily confused with each other."""
INERT = ("strict", "precision")
"""Keywords that change no result on a CPU: a check, and a precision that only other devices use."""


SHOWN = (ast.expr, ast.stmt, ast.keyword, ast.arguments)
"""Kinds of nodes whose source is used to describe a mistake."""
LIBRARIES = ("jnp", "lax", "special", "jax.nn")
"""Modules of array functions: a call with one argument may be replaced by its argument."""
COMMUTATIVE = (
    *("max", "min", "maximum", "minimum", "max_dim", "min_dim", "multiply", "clip"),
    *("promote_types", "result_dtype", "result_type", "broadcast_shapes"),
)
"""Functions whose first two arguments can be swapped without a change."""
BUILTIN = ("max", "min")
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


def mutants(source: str) -> Iterator[Mutant]:
    """Yields every mutant of a module's functions and tables of functions."""
    module = ast.parse(source)
    for place, node in enumerate(module.body):
        if isinstance(node, ast.FunctionDef):
            yield from _of_function(module, place, node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            yield from _of_table(module, place, node)


def _of_function(module: ast.Module, place: int, node: ast.FunctionDef) -> Iterator[Mutant]:
    changes = [*_changes(node)] or [*_doubled_answers(node)]
    made = [_changed(node, where, change) for where, change in changes]
    source = ast.unparse(node)
    texts = _told_apart([chain for _, chain in made])
    for changed, what in zip((changed for changed, _ in made), texts, strict=True):
        tree = copy.copy(module)
        tree.body = [*module.body[:place], changed, *module.body[place + 1 :]]
        yield Mutant(node.name, what, ast.fix_missing_locations(tree), source)


def _changed(
    function: ast.FunctionDef, where: int, change: Callable[[Any], None]
) -> tuple[ast.FunctionDef, list[str]]:
    """Returns a copy of the function with a mistake, and descriptions of it: the node alone, then each node around it."""
    made = copy.deepcopy(function)
    node = list(ast.walk(made))[where]
    around = _outwards(made, node)
    before = [ast.unparse(one) for one in around]
    change(node)
    after = [ast.unparse(one) for one in around]
    return made, [_difference(*pair) for pair in zip(before, after, strict=True)]


def _outwards(function: ast.FunctionDef, node: ast.AST) -> list[ast.AST]:
    above = {
        id(inner): outer for outer in ast.walk(function) for inner in ast.iter_child_nodes(outer)
    }
    found = [node]
    while id(found[-1]) in above:
        found.append(above[id(found[-1])])
    return [one for one in found if isinstance(one, SHOWN)]


def _difference(before: str, after: str) -> str:
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


def _told_apart(chains: list[list[str]]) -> list[str]:
    """Returns a unique description of each mistake: the innermost one that no other mistake has."""
    times = Counter(text for chain in chains for text in set(chain))
    found, seen = [], Counter[str]()
    for chain in chains:
        text = next((one for one in chain[1:] if times[one] == 1), chain[-1])
        text = chain[0] if " " in chain[0].partition(" -> ")[0] and times[chain[0]] == 1 else text
        seen[text] += 1
        found.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return found


def _of_table(module: ast.Module, place: int, node: Any) -> Iterator[Mutant]:
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


def _skipped(function: ast.FunctionDef) -> set[int]:
    """Returns the ids of nodes that are not mutated: annotations, decorators and error messages."""
    nodes: list[ast.AST] = [*function.decorator_list]
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation:
            nodes.append(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns:
            nodes.append(node.returns)
        if isinstance(node, ast.AnnAssign):
            nodes.append(node.annotation)
        if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg in INERT):
            nodes.append(node)
    return {id(inner) for node in nodes for inner in ast.walk(node)}


def _changes(function: ast.FunctionDef) -> Iterator[tuple[int, Callable[[Any], None]]]:
    skipped = _skipped(function)
    for where, node in enumerate(ast.walk(function)):
        if id(node) not in skipped:
            for change in _of_node(node):
                yield where, change


def _doubled_answers(function: ast.FunctionDef) -> Iterator[tuple[int, Callable[[Any], None]]]:
    """Yields doubled return values, for functions without any other mistake."""
    for where, node in enumerate(ast.walk(function)):
        if isinstance(node, ast.Return):
            yield where, _doubled


def _doubled(node: Any) -> None:
    node.value = ast.BinOp(node.value, ast.Add(), node.value)


def _of_node(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield _setting("op", ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for operator in COMPARISONS.get(type(node.ops[0]), ()):
            yield _setting("ops", [operator(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield _setting("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp):
        # The node cannot be replaced by its operand here; a unary plus does nothing instead.
        yield _setting("op", ast.UAdd()) if isinstance(node.op, ast.USub) else _emptied
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node.value)
    elif isinstance(node, ast.Attribute) and node.attr in ALIKE:
        yield _setting("attr", ALIKE[node.attr])
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        # Comparisons and boolean operations have mistakes of their own.
        if not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            yield _turned
    elif isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg and keyword.arg not in INERT:
                yield _without(index)
        if isinstance(node.func, ast.Name) and node.func.id in ALIKE:
            yield _renamed
        plain = not any(isinstance(one, ast.Starred) for one in node.args[:2])
        module, _, name = ast.unparse(node.func).rpartition(".")
        free = name in COMMUTATIVE and not (module and name in BUILTIN)
        if name == "astype" and isinstance(node.func, ast.Attribute):
            yield _without_cast
        elif len(node.args) == 1 and not node.keywords and plain and module in LIBRARIES:
            yield _without_call
        if len({ast.unparse(one) for one in node.args[:2]}) == 2 and plain and not free:
            yield _swapped


def _of_constant(value: Any) -> Iterator[Callable[[Any], None]]:
    if isinstance(value, bool):
        yield _setting("value", not value)
    elif isinstance(value, int):
        yield _setting("value", value + 1)
    elif isinstance(value, float):
        yield _setting("value", value * 2 if value else 1.0)


def _setting(name: str, value: Any) -> Callable[[Any], None]:
    return lambda node: setattr(node, name, value)


def _emptied(node: Any) -> None:
    """Changes ``not x`` to ``not not x`` and ``~x`` to ``~~x``."""
    node.operand = ast.UnaryOp(type(node.op)(), node.operand)


def _without(index: int) -> Callable[[Any], None]:
    return lambda node: node.keywords.pop(index)


def _renamed(node: Any) -> None:
    node.func.id = ALIKE[node.func.id]


def _turned(node: Any) -> None:
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _without_cast(node: Any) -> None:
    _become(node, node.func.value)


def _without_call(node: Any) -> None:
    _become(node, node.args[0])


def _become(node: Any, other: Any) -> None:
    """Replaces a node in place by another, because its parent is not known here."""
    node.__class__ = other.__class__
    node.__dict__ = other.__dict__


def _swapped(node: Any) -> None:
    node.args[0], node.args[1] = node.args[1], node.args[0]


def users(source: str) -> dict[str, set[str]]:
    """Returns, for each function of a module, the functions that use it directly or indirectly, itself included."""
    module = ast.parse(source)
    uses: dict[str, set[str]] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            uses[node.name] = _names(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            uses[ast.unparse(target)] = _names(node)
    for node in module.body:
        if isinstance(node, ast.For):
            # A function that a loop applies to the entries of a table uses them.
            for name in _names(node) & uses.keys() - _names(node.iter):
                uses[name] |= _names(node.iter)
    found = {name: {name} for name in uses}
    for _ in uses:
        for name, inner in uses.items():
            for one in inner & found.keys():
                found[one].add(name)
                found[one] |= found[name]
    return found


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
