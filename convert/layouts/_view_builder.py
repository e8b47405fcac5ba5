"""Builds the view of a layout from its table of parameter names and the architecture's overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equipoise.convert.architectures.expand import Expansion, MountedClass, Parameter
from equipoise.convert.core.rules import Rule
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts.base import LayoutView, ParameterSpelling

SpellingTable = Mapping[tuple[str, str], ParameterSpelling]
"""(kind, parameter in PyTorch) -> its spelling here; a missing pair is not stored."""


@dataclass(frozen=True)
class Dialect:
    """The regular part of a layout.

    Attributes:
        layout: Its name.
        leaves: Its names of the parameters of each kind.
        join: Joins (renamed prefix, remaining path in PyTorch's spelling) to a module path.
        separator: Separator between module path and parameter.
        ties_by_config: Whether files may store shared parameters under their own names, as in PyTorch.
        strips_prefix: Whether names of the base class lack the prefix.
    """

    layout: str
    leaves: SpellingTable
    join: Callable[[str, str, LayoutOverrides], str]
    separator: str
    ties_by_config: bool
    strips_prefix: bool


def build_view(expansion: Expansion, dialect: Dialect) -> tuple[LayoutView, LayoutOverrides]:
    """Returns the view of a layout, without the parts of single layouts (groups, roots, aliases)."""
    overrides = LayoutOverrides(expansion, dialect.layout)
    # A rule over modules that this class lacks, e.g. those of a decoder, is none of its rules.
    multi = [
        rule
        for rule in overrides.multi_parameter_rules()
        if any(name in expansion.parameters for name in rule.sources)
    ]
    covered = {name for rule in multi for name in rule.sources}
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
        stored = _is_stored(parameter, overrides, dialect, shared, refused, left_out)
        if stored and parameter.name not in covered:
            rules.append(_parameter_rule(parameter, overrides, dialect))
    ignored = overrides.table("ignored")
    repeated = {
        one.name: one.tied_to
        for one in expansion.parameters.values()
        if one.tied_to and one.one_tensor and one.name not in {*shared, *inside}
    }
    dtypes = {
        one.name: leaf.dtype
        for one in expansion.parameters.values()
        if one.name not in inside
        and (leaf := dialect.leaves.get((one.kind, one.leaf)))
        and leaf.dtype
    }
    fixed = {
        one.name: str(dtype)
        for one in expansion.parameters.values()
        if one.name not in inside and (dtype := overrides.for_parameter("dtypes", one))
    }
    view = LayoutView(
        (*rules, *multi),
        shared=shared,
        refused=refused,
        left_out=left_out,
        repeated=repeated,
        dtypes={**dtypes, **fixed},
        ignored=ignored,
        known_difference=overrides.of_class("wrong"),
        unproven=overrides.of_class("unproven"),
    )
    for part in expansion.mounted:
        view = _merge_views(view, _mounted_view(part, overrides, dialect))
    return view, overrides


def _mounted_view(part: MountedClass, overrides: LayoutOverrides, dialect: Dialect) -> LayoutView:
    """Returns the view of a mounted class below its path; parameter names use dots, stored names the layout's separator."""
    inner, own = build_view(part.expansion, dialect)
    start = _spell_path(overrides.path_of(part.under, part.under, {}), overrides, dialect)
    start = f"{start}{dialect.separator}" if start else ""

    # A TensorFlow variable outside of every layer has no root and keeps its name when its class is mounted.
    bare = {first for first, root in own.get("roots", {}).items() if not root}

    def with_start(name: str) -> str:
        return name if name in bare else f"{start}{name}"

    def with_path(table: Mapping[str, str]) -> dict[str, str]:
        return {f"{part.under}.{name}": value for name, value in table.items()}

    return LayoutView(
        tuple(
            Rule(
                tuple(f"{part.under}.{name}" for name in rule.sources),
                tuple(with_start(name) for name in rule.targets),
                rule.ops,
            )
            for rule in inner.rules
        ),
        shared={name: f"{part.under}.{to}" for name, to in with_path(inner.shared).items()},
        refused=with_path(inner.refused),
        left_out=with_path(inner.left_out),
        repeated={name: f"{part.under}.{to}" for name, to in with_path(inner.repeated).items()},
        dtypes=with_path(inner.dtypes),
        ignored={f"{start}{name}": reason for name, reason in inner.ignored.items()},
        known_difference=inner.known_difference,
        unproven=inner.unproven,
        groups=dict.fromkeys(bare, start.split(dialect.separator)[0]) if bare else {},
        roots=dict.fromkeys(bare, ""),
    )


def _merge_views(view: LayoutView, other: LayoutView) -> LayoutView:
    """Returns the union of two views."""
    return LayoutView(
        (*view.rules, *other.rules),
        shared={**view.shared, **other.shared},
        refused={**view.refused, **other.refused},
        left_out={**view.left_out, **other.left_out},
        repeated={**view.repeated, **other.repeated},
        dtypes={**view.dtypes, **other.dtypes},
        ignored={**view.ignored, **other.ignored},
        known_difference=view.known_difference or other.known_difference,
        unproven=view.unproven or other.unproven,
        groups={**view.groups, **other.groups},
        roots={**view.roots, **other.roots},
    )


def _is_stored(
    parameter: Parameter,
    overrides: LayoutOverrides,
    dialect: Dialect,
    shared: dict[str, str],
    refused: dict[str, str],
    left_out: dict[str, str],
) -> bool:
    """Whether the parameter has a name here; otherwise adds it to ``shared``, ``refused`` or ``left_out``."""
    if reason := overrides.refusal(parameter):
        refused[parameter.name] = reason
        return False
    if reason := overrides.for_parameter("left_out", parameter):
        left_out[parameter.name] = reason
        return dialect.layout == "pytorch"
    if parameter.tied_to and parameter.template not in overrides.get("stored", []):
        always = overrides.for_parameter("shared", parameter)
        one_tensor = parameter.one_tensor and not dialect.ties_by_config
        if parameter.shared or one_tensor or always is not None:
            shared[parameter.name] = parameter.tied_to
            if always and not parameter.shared:
                refused[parameter.name] = always
            return dialect.ties_by_config
    if (parameter.kind, parameter.leaf) not in dialect.leaves:
        left_out[parameter.name] = (
            "a counter of PyTorch's training, unused in inference"
            if parameter.computed in (None, "unused")
            else "follows from the config"
        )
        return False
    return True


def _parameter_rule(parameter: Parameter, overrides: LayoutOverrides, dialect: Dialect) -> Rule:
    leaf = dialect.leaves[parameter.kind, parameter.leaf]
    steps = overrides.ops(parameter)
    return Rule(
        (parameter.name,),
        (stored_name(parameter, overrides, dialect, leaf.name),),
        leaf.ops if steps is None else steps,
    )


def _spell_path(path: tuple[str, str], overrides: LayoutOverrides, dialect: Dialect) -> str:
    """Returns a path in the layout's spelling, without the prefix that base classes omit."""
    spelling = dialect.join(*path, overrides)
    expansion = overrides.expansion
    if dialect.strips_prefix and expansion.cls.base and expansion.spec.prefix:
        return spelling.removeprefix(expansion.spec.prefix + dialect.separator)
    return spelling


def stored_name(
    parameter: Parameter, overrides: LayoutOverrides, dialect: Dialect, leaf: str
) -> str:
    """Returns the stored name of a parameter."""
    own = overrides.for_parameter("leaves", parameter)
    kind = overrides.table("kinds").get(f"{parameter.kind}.{parameter.leaf}", leaf)
    path = _spell_path(overrides.path(parameter), overrides, dialect)
    last = kind if own is None else overrides.format(own, parameter.indices)
    parts = (path, last) if parameter.leaf else (path,)
    return dialect.separator.join(part for part in parts if part)
