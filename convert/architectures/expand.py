"""Expands a spec for one class and one config: every parameter with its shape, tie and origin."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from equipoise.convert.architectures import expressions, name_templates
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.module_kinds import MODULE_KINDS, ModuleKind
from equipoise.convert.architectures.spec import (
    ArchitectureSpec,
    ClassSpec,
    ModuleSpec,
    PartSpec,
    load_spec,
)
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError, SpecError

MAX_REPEAT = 4096
MAX_PARAMETERS = 200_000
BARE_KINDS = ("param", "integers")
"""Kinds without a module of their own."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model, named as in PyTorch with the base class's prefix.

    Attributes:
        name: e.g. ``bert.encoder.layer.0.output.dense.weight``.
        module: The module that owns it; for a bare parameter the parameter itself.
        template: Template of the name, with the indices in place of the numbers.
        kind: Key of :data:`equipoise.convert.architectures.module_kinds.MODULE_KINDS`.
        leaf: e.g. ``weight``; empty for a bare parameter.
        shape: Sizes in PyTorch's axis order.
        indices: Values of the template's indices.
        tied_to: The parameter it repeats, or None.
        shared: Whether PyTorch shares the two (``tied_to``) and stores one of them.
        one_tensor: Whether the two are equal even where PyTorch stores both.
        computed: Name of the generator when it follows from the config, or None.
        dtype: Its dtype when it is always the same, e.g. a counter; None for weights.
        absent: Why zeros stand for it where an old file lacks it; empty where it must be there.
    """

    name: str
    module: str
    template: str
    kind: str
    leaf: str
    shape: Shape
    indices: Mapping[str, int]
    tied_to: str | None = None
    shared: bool = False
    one_tensor: bool = False
    computed: str | None = None
    dtype: str | None = None
    absent: str = ""

    @property
    def generator(self) -> str | None:
        """What makes it where the source has none."""
        return "zeros" if self.computed is None and self.absent else self.computed

    @property
    def is_rebuilt(self) -> bool:
        """Whether it is made anew for every layout, each with a dtype of its own, and never copied."""
        return self.kind == "integers"


@dataclass(frozen=True)
class MountedClass:
    """A whole class of another spec under a path, e.g. the encoder of an encoder-decoder."""

    under: str
    expansion: Expansion

    @property
    def parameters(self) -> Iterator[Parameter]:
        """Its parameters by their names in the whole."""
        for one in self.expansion.parameters.values():
            tied_to = None if one.tied_to is None else f"{self.under}.{one.tied_to}"
            yield replace(
                one,
                name=f"{self.under}.{one.name}",
                module=f"{self.under}.{one.module}",
                template=f"{self.under}.{one.template}",
                tied_to=tied_to,
            )


@dataclass(frozen=True)
class Expansion:
    """All parameters of one class under one config.

    Attributes:
        spec: Where they come from.
        cls: The class.
        config: The config.
        parameters: By name, in the order of the spec; those of mounted classes included.
        mounted: The classes of other specs inside.
    """

    spec: ArchitectureSpec
    cls: ClassSpec
    config: Config
    parameters: Mapping[str, Parameter]
    mounted: tuple[MountedClass, ...] = ()


class ExpressionScope:
    """Names that expressions see: indices, ``[let]`` entries, ``head`` (the class's key) and the config."""

    def __init__(self, spec: ArchitectureSpec, config: Config, head: str) -> None:
        self.spec = spec
        self.config = config.with_defaults(spec.defaults)
        self.head = head
        self.indices: dict[str, int] = {}

    def lookup(self, name: str) -> Any:
        """The value of a name; indices win over ``[let]`` entries over the config."""
        if name in self.indices:
            return self.indices[name]
        if name in self.spec.let:
            return self.value(self.spec.let[name])
        if name == "head":
            return self.head
        return self.config.lookup(name)

    def value(self, text: str | ast.expr) -> Any:
        """The value of an expression.

        Raises:
            ArchitectureError: The config's values do not fit it.
        """
        try:
            return expressions.evaluate(text, self.lookup)
        except (TypeError, IndexError, ZeroDivisionError, KeyError) as error:
            shown = text if isinstance(text, str) else ast.unparse(text)
            raise ArchitectureError(
                f"the config does not fit the architecture {self.spec.model_type!r}: "
                f"{shown!r} fails: {error}",
                file=self.config.file,
            ) from error

    def holds(self, condition: str | None) -> bool:
        """Whether a condition holds; None always does."""
        return condition is None or bool(self.value(condition))

    def size(self, text: str | ast.expr) -> int:
        """The value of an expression that must be a size."""
        value = self.value(text)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            shown = text if isinstance(text, str) else ast.unparse(text)
            raise ArchitectureError(
                f"{shown!r} is no size",
                file=self.config.file,
                expected="a number",
                found=repr(value),
            )
        return value

    def index_combinations(self, fields: tuple[str, ...]) -> Iterator[dict[str, int]]:
        """Every combination of the indices; an inner count may depend on an outer index."""
        if not fields:
            yield dict(self.indices)
            return
        first, rest = fields[0], fields[1:]
        count = self.size(self.spec.repeat[first])
        if count > MAX_REPEAT:
            raise ArchitectureError(
                f"{self.spec.repeat[first]!r} is {count}",
                file=self.config.file,
                expected=f"at most {MAX_REPEAT}",
            )
        for index in range(count):
            self.indices[first] = index
            yield from self.index_combinations(rest)
        self.indices.pop(first, None)


def expand(spec: ArchitectureSpec, cls: ClassSpec, config: Config) -> Expansion:
    """All parameters of a class.

    Raises:
        ArchitectureError: The config lacks something or has absurd values.
        SpecError: The spec is wrong.
    """
    scope = ExpressionScope(spec, config, cls.key)
    parameters: dict[str, Parameter] = {}
    mounted = tuple(
        _mount(scope, spec.parts[name]) for name in cls.groups if _is_mounted(spec, name)
    )
    found = chain(
        (
            one
            for name in cls.groups
            if not _is_mounted(spec, name)
            for one in _group_parameters(scope, name)
        ),
        (one for part in mounted for one in part.parameters),
    )
    for parameter in islice(found, MAX_PARAMETERS + 1):
        if parameter.name in parameters:
            raise SpecError(f"{parameter.name!r} is declared twice", file=spec.file)
        parameters[parameter.name] = parameter
    if len(parameters) > MAX_PARAMETERS:
        raise ArchitectureError(f"more than {MAX_PARAMETERS} parameters", file=config.file)
    return Expansion(spec, cls, scope.config, _drop_dangling_ties(parameters), mounted)


def _is_mounted(spec: ArchitectureSpec, group: str) -> bool:
    return group in spec.parts and spec.parts[group].under is not None


def _mount(scope: ExpressionScope, part: PartSpec) -> MountedClass:
    """The class that stands under the part's path, expanded with the nested config."""
    name = part.spec or scope.lookup(f"{part.config}.model_type")
    spec = load_spec(name)
    keys = [key for key in part.classes if spec is not None and key in spec.classes]
    if spec is None or not keys:
        raise ArchitectureError(
            f"no architecture is known for {part.config} of this {scope.spec.model_type}",
            file=scope.config.file,
            expected=f"a model type with one of {', '.join(part.classes)}",
            found=repr(name),
        )
    config = scope.config.part(part.config)
    return MountedClass(str(part.under), expand(spec, spec.classes[keys[0]], config))


def _drop_dangling_ties(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """A parameter repeats another only in the classes that have both."""
    return {
        name: one if one.tied_to in parameters else replace(one, tied_to=None, shared=False)
        for name, one in parameters.items()
    }


def _group_parameters(scope: ExpressionScope, group: str) -> Iterator[Parameter]:
    name, _, inner = group.partition(":")
    if name in scope.spec.parts:
        part = scope.spec.parts[name]
        spec = load_spec(part.spec or "")
        if spec is None:
            raise SpecError(f"part {name!r} names no spec {part.spec!r}", file=scope.spec.file)
        yield from _group_parameters(
            ExpressionScope(spec, scope.config.part(part.config), scope.head), inner
        )
        return
    if not scope.holds(scope.spec.when.get(name)):
        return
    for module in scope.spec.modules[name]:
        yield from _module_parameters(scope, module)


def _module_parameters(scope: ExpressionScope, module: ModuleSpec) -> Iterator[Parameter]:
    for indices in scope.index_combinations(name_templates.index_names(module.path)):
        if not scope.holds(module.when):
            continue
        kind, arguments = _parse_kind(scope, module.kind)
        path = name_templates.format_name(module.path, indices)
        for leaf, shape in _leaf_shapes(scope, kind, arguments):
            name = f"{path}.{leaf}" if leaf else path
            written = f"{module.path}.{leaf}" if leaf else module.path
            tie = scope.spec.ties.get(written)
            yield Parameter(
                name=name,
                module=path,
                template=written,
                kind=kind,
                leaf=leaf,
                shape=shape,
                indices=dict(indices),
                tied_to=name_templates.format_name(tie.to, indices) if tie else None,
                shared=tie is not None and scope.holds(tie.when),
                one_tensor=tie is not None and tie.one_tensor,
                computed=_generator_name(scope, written, MODULE_KINDS[kind], leaf),
                dtype=MODULE_KINDS[kind].integers.get(leaf),
                absent=scope.spec.absent.get(written, ""),
            )


def _generator_name(
    scope: ExpressionScope, written: str, kind: ModuleKind, leaf: str
) -> str | None:
    entry = scope.spec.computed.get(written)
    if leaf in kind.integers and entry is None:
        return "unused"
    if isinstance(entry, Mapping):
        return str(entry["to"]) if scope.holds(entry["when"]) else None
    return entry


def _parse_kind(scope: ExpressionScope, text: str) -> tuple[str, dict[str, Any]]:
    """The kind of a module and its arguments, sizes evaluated."""
    node = expressions.parse_expression(text)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError(f"not a kind: {text!r}", file=scope.spec.file)
    name = node.func.id
    if name not in MODULE_KINDS:
        raise SpecError(
            f"unknown kind {name!r}", file=scope.spec.file, expected=sorted(MODULE_KINDS)
        )
    kind = MODULE_KINDS[name]
    if name in BARE_KINDS:
        return name, {"shape": tuple(scope.size(arg) for arg in node.args)}
    if len(node.args) != len(kind.arguments):
        raise SpecError(f"{text!r} does not give {kind.arguments}", file=scope.spec.file)
    sizes = {key: scope.size(arg) for key, arg in zip(kind.arguments, node.args, strict=True)}
    switches = {key.arg: scope.value(key.value) for key in node.keywords if key.arg}
    if not set(switches) <= set(kind.switches):
        raise SpecError(f"{text!r} has an unknown switch", file=scope.spec.file)
    return name, {**kind.switches, **sizes, **switches}


def _leaf_shapes(
    scope: ExpressionScope, kind: str, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, Shape]]:
    if kind in BARE_KINDS:
        yield "", arguments["shape"]
        return
    for leaf, shape in MODULE_KINDS[kind].leaves.items():
        if leaf != "bias" or arguments.get("bias", True):
            yield (
                leaf,
                tuple(int(expressions.evaluate(size, arguments.__getitem__)) for size in shape),
            )
