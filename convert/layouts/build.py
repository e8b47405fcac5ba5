"""Builds the view of a layout from its table of leaves and the spec's irregularities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equipoise.convert.expand import Expansion, Parameter
from equipoise.convert.layouts import Leaf, View
from equipoise.convert.layouts.irregular import Irregular
from equipoise.convert.rule import Rule

Leaves = Mapping[tuple[str, str], Leaf]
"""(kind, leaf in PyTorch) -> leaf here; a pair that is missing is not stored here."""


@dataclass(frozen=True)
class Dialect:
    """What a layout module tells the builder.

    Attributes:
        layout: Its name.
        leaves: How it spells the leaves.
        join: Module path from (moved start, rest in PyTorch's spelling).
        separator: Between module path and leaf.
        ties_by_config: Whether it, like PyTorch, accepts the names of shared parameters in a file.
        strips_prefix: Whether names of the base class lack the prefix.
    """

    layout: str
    leaves: Leaves
    join: Callable[[str, str, Irregular], str]
    separator: str
    ties_by_config: bool
    strips_prefix: bool


def build_view(expansion: Expansion, dialect: Dialect) -> tuple[View, Irregular]:
    """The view of a layout, without what only one layout has (groups, roots, aliases)."""
    irregular = Irregular(expansion, dialect.layout)
    many = irregular.many_rules()
    covered = {name for rule in many for name in rule.sources}
    rules: list[Rule] = []
    shared: dict[str, str] = {}
    refused: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for parameter in expansion.parameters.values():
        stored = _is_stored(parameter, irregular, dialect, shared, refused, left_out)
        if stored and parameter.name not in covered:
            rules.append(_rule(parameter, irregular, dialect))
    ignored = irregular.table("ignored")
    repeated = {
        one.name: one.tied_to
        for one in expansion.parameters.values()
        if one.tied_to and one.one_tensor and one.name not in shared
    }
    wrong = irregular.table("wrong")
    dtypes = {
        one.name: leaf.dtype
        for one in expansion.parameters.values()
        if (leaf := dialect.leaves.get((one.kind, one.leaf))) and leaf.dtype
    }
    view = View(
        (*rules, *many),
        shared=shared,
        refused=refused,
        left_out=left_out,
        repeated=repeated,
        dtypes=dtypes,
        ignored=ignored,
        wrong=wrong.get(expansion.cls.key, wrong.get("*", "")),
    )
    return view, irregular


def _is_stored(
    parameter: Parameter,
    irregular: Irregular,
    dialect: Dialect,
    shared: dict[str, str],
    refused: dict[str, str],
    left_out: dict[str, str],
) -> bool:
    """Whether the parameter has a name here; fills the accounts of those that have none."""
    if reason := irregular.of_parameter("refused", parameter):
        refused[parameter.name] = reason
        return False
    if reason := irregular.of_parameter("left_out", parameter):
        left_out[parameter.name] = reason
        return dialect.layout == "pytorch"
    if parameter.tied_to and parameter.template not in irregular.get("stored", []):
        always = irregular.of_parameter("shared", parameter)
        one_tensor = parameter.one_tensor and not dialect.ties_by_config
        if parameter.shared or one_tensor or always is not None:
            shared[parameter.name] = parameter.tied_to
            if always and not parameter.shared:
                refused[parameter.name] = always
            return dialect.ties_by_config
    if (parameter.kind, parameter.leaf) not in dialect.leaves:
        left_out[parameter.name] = (
            "bookkeeping of PyTorch's training, unused when running"
            if parameter.computed in (None, "unused")
            else "follows from the config"
        )
        return False
    return True


def _rule(parameter: Parameter, irregular: Irregular, dialect: Dialect) -> Rule:
    leaf = dialect.leaves[parameter.kind, parameter.leaf]
    steps = irregular.ops(parameter)
    return Rule(
        (parameter.name,),
        (spell(parameter, irregular, dialect, leaf.name),),
        leaf.ops if steps is None else steps,
    )


def spell(parameter: Parameter, irregular: Irregular, dialect: Dialect, leaf: str) -> str:
    """The stored name of a parameter with this leaf."""
    own = irregular.of_parameter("leaves", parameter)
    moved, rest = irregular.path(parameter)
    path = dialect.join(moved, rest, irregular)
    expansion = irregular.expansion
    if dialect.strips_prefix and expansion.cls.base and expansion.spec.prefix:
        path = path.removeprefix(expansion.spec.prefix + dialect.separator)
    last = own or leaf
    return f"{path}{dialect.separator}{last}" if parameter.leaf else path
