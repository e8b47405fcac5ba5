"""Builds the view of a layout from its table of leaves and the spec's irregularities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equipoise.convert.architectures import name_templates
from equipoise.convert.architectures.expand import Expansion, MountedClass, Parameter
from equipoise.convert.core.rules import Rule
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts.base import LayoutView, ParameterSpelling

SpellingTable = Mapping[tuple[str, str], ParameterSpelling]
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
    leaves: SpellingTable
    join: Callable[[str, str, LayoutOverrides], str]
    separator: str
    ties_by_config: bool
    strips_prefix: bool


def build_view(expansion: Expansion, dialect: Dialect) -> tuple[LayoutView, LayoutOverrides]:
    """The view of a layout, without what only one layout has (groups, roots, aliases)."""
    irregular = LayoutOverrides(expansion, dialect.layout)
    many = irregular.multi_parameter_rules()
    covered = {name for rule in many for name in rule.sources}
    rules: list[Rule] = []
    shared: dict[str, str] = {}
    refused: dict[str, str] = {}
    left_out: dict[str, str] = {}
    inside = {
        f"{part.under}.{name}" for part in expansion.mounted for name in part.expansion.parameters
    }
    for parameter in expansion.parameters.values():
        if parameter.name in inside:
            continue
        stored = _is_stored(parameter, irregular, dialect, shared, refused, left_out)
        if stored and parameter.name not in covered:
            rules.append(_parameter_rule(parameter, irregular, dialect))
    ignored = irregular.table("ignored")
    repeated = {
        one.name: one.tied_to
        for one in expansion.parameters.values()
        if one.tied_to and one.one_tensor and one.name not in {*shared, *inside}
    }
    wrong = irregular.table("wrong")
    dtypes = {
        one.name: leaf.dtype
        for one in expansion.parameters.values()
        if one.name not in inside
        and (leaf := dialect.leaves.get((one.kind, one.leaf)))
        and leaf.dtype
    }
    view = LayoutView(
        (*rules, *many),
        shared=shared,
        refused=refused,
        left_out=left_out,
        repeated=repeated,
        dtypes=dtypes,
        ignored=ignored,
        known_difference=wrong.get(expansion.cls.key, wrong.get("*", "")),
    )
    for part in expansion.mounted:
        view = _merge_views(view, _mounted_view(part, irregular, dialect))
    return view, irregular


def _mounted_view(part: MountedClass, irregular: LayoutOverrides, dialect: Dialect) -> LayoutView:
    """The view of a mounted class under its path; names of parameters take dots, those of files the layout's."""
    inner, own = build_view(part.expansion, dialect)
    start = _spell_path(irregular.path_of(part.under, part.under, {}), irregular, dialect)
    start = f"{start}{dialect.separator}" if start else ""

    # A variable that TensorFlow makes outside of every layer has no root and keeps its name wherever it stands.
    bare = {first for first, root in own.get("roots", {}).items() if not root}

    def placed(name: str) -> str:
        return name if name in bare else f"{start}{name}"

    def named(table: Mapping[str, str]) -> dict[str, str]:
        return {f"{part.under}.{name}": value for name, value in table.items()}

    return LayoutView(
        tuple(
            Rule(
                tuple(f"{part.under}.{name}" for name in rule.sources),
                tuple(placed(name) for name in rule.targets),
                rule.ops,
            )
            for rule in inner.rules
        ),
        shared={name: f"{part.under}.{to}" for name, to in named(inner.shared).items()},
        refused=named(inner.refused),
        left_out=named(inner.left_out),
        repeated={name: f"{part.under}.{to}" for name, to in named(inner.repeated).items()},
        dtypes=named(inner.dtypes),
        ignored={f"{start}{name}": reason for name, reason in inner.ignored.items()},
        known_difference=inner.known_difference,
        groups=dict.fromkeys(bare, start.split(dialect.separator)[0]) if bare else {},
        roots=dict.fromkeys(bare, ""),
    )


def _merge_views(view: LayoutView, other: LayoutView) -> LayoutView:
    """Both views in one."""
    return LayoutView(
        (*view.rules, *other.rules),
        shared={**view.shared, **other.shared},
        refused={**view.refused, **other.refused},
        left_out={**view.left_out, **other.left_out},
        repeated={**view.repeated, **other.repeated},
        dtypes={**view.dtypes, **other.dtypes},
        ignored={**view.ignored, **other.ignored},
        known_difference=view.known_difference or other.known_difference,
        groups={**view.groups, **other.groups},
        roots={**view.roots, **other.roots},
    )


def _is_stored(
    parameter: Parameter,
    irregular: LayoutOverrides,
    dialect: Dialect,
    shared: dict[str, str],
    refused: dict[str, str],
    left_out: dict[str, str],
) -> bool:
    """Whether the parameter has a name here; fills the accounts of those that have none."""
    if reason := irregular.for_parameter("refused", parameter):
        refused[parameter.name] = reason
        return False
    if reason := irregular.for_parameter("left_out", parameter):
        left_out[parameter.name] = reason
        return dialect.layout == "pytorch"
    if parameter.tied_to and parameter.template not in irregular.get("stored", []):
        always = irregular.for_parameter("shared", parameter)
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


def _parameter_rule(parameter: Parameter, irregular: LayoutOverrides, dialect: Dialect) -> Rule:
    leaf = dialect.leaves[parameter.kind, parameter.leaf]
    steps = irregular.ops(parameter)
    return Rule(
        (parameter.name,),
        (stored_name(parameter, irregular, dialect, leaf.name),),
        leaf.ops if steps is None else steps,
    )


def _spell_path(path: tuple[str, str], irregular: LayoutOverrides, dialect: Dialect) -> str:
    """A path as the layout spells it, without the prefix that the base class lacks."""
    spelled = dialect.join(*path, irregular)
    expansion = irregular.expansion
    if dialect.strips_prefix and expansion.cls.base and expansion.spec.prefix:
        return spelled.removeprefix(expansion.spec.prefix + dialect.separator)
    return spelled


def stored_name(
    parameter: Parameter, irregular: LayoutOverrides, dialect: Dialect, leaf: str
) -> str:
    """The stored name of a parameter with this leaf."""
    own = name_templates.format_name(
        irregular.for_parameter("leaves", parameter) or "", parameter.indices
    )
    path = _spell_path(irregular.path(parameter), irregular, dialect)
    last = own or leaf
    parts = (path, last) if parameter.leaf else (path,)
    return dialect.separator.join(part for part in parts if part)
