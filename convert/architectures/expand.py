"""Expands an architecture for one class and one config into parameters with names, shapes and ties."""

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
"""Kinds of bare parameters, which have no module of their own."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model, with its PyTorch name including the base class's prefix.

    Attributes:
        name: e.g. ``bert.encoder.layer.0.output.dense.weight``.
        module: The module that owns it; for a bare parameter the parameter itself.
        template: Template of the name, e.g. ``bert.encoder.layer.{layer}.output.dense.weight``.
        kind: Key of :data:`equipoise.convert.architectures.module_kinds.MODULE_KINDS`.
        leaf: e.g. ``weight``; empty for a bare parameter.
        shape: Sizes in PyTorch's axis order.
        indices: Values of the template's indices.
        tied_to: The parameter that it is tied to, or None.
        shared: Whether PyTorch shares the two tensors and stores one of them.
        one_tensor: Whether the two are equal even if PyTorch stores both.
        computed: Name of its generator if it follows from the config, or None.
        dtype: Its dtype if that is fixed, e.g. of a counter; None for weights.
        absent: Why zeros replace it in files that lack it; empty if it is required.
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
        """Name of the generator that computes it if the source does not store it."""
        return "zeros" if self.computed is None and self.absent else self.computed

    @property
    def is_rebuilt(self) -> bool:
        """Whether it is computed for every layout, each with its own dtype, and never copied."""
        return self.kind == "integers"


@dataclass(frozen=True)
class MountedClass:
    """A class of another architecture below a path, e.g. the encoder of an encoder-decoder."""

    under: str
    expansion: Expansion

    @property
    def parameters(self) -> Iterator[Parameter]:
        """Its parameters with their full names."""
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
        spec: The architecture.
        cls: The class.
        config: The config.
        parameters: By name, in the order of the architecture file, mounted classes included.
        mounted: Mounted classes of other architectures.
    """

    spec: ArchitectureSpec
    cls: ClassSpec
    config: Config
    parameters: Mapping[str, Parameter]
    mounted: tuple[MountedClass, ...] = ()


class ExpressionScope:
    """Resolves names in expressions: indices, ``[let]`` entries, ``head`` (the class's key) and config fields."""

    def __init__(self, spec: ArchitectureSpec, config: Config, head: str) -> None:
        self.spec = spec
        self.config = config.with_defaults(spec.defaults)
        self.head = head
        self.indices: dict[str, int] = {}
        self._values: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}

    def lookup(self, name: str) -> Any:
        """Returns the value of a name; indices win over ``[let]`` entries, and those over the config."""
        if name in self.indices:
            return self.indices[name]
        if name in self.spec.let:
            key = (name, tuple(self.indices.items()))
            if key not in self._values:
                self._values[key] = self.evaluate(self.spec.let[name])
            return self._values[key]
        if name == "head":
            return self.head
        return self.config.lookup(name)

    def evaluate(self, text: str | ast.expr) -> Any:
        """Returns the value of an expression.

        Raises:
            ArchitectureError: The expression fails for the config's values.
        """
        try:
            return expressions.evaluate(text, self.lookup)
        except (TypeError, LookupError, ValueError, ArithmeticError) as error:
            shown = text if isinstance(text, str) else ast.unparse(text)
            raise ArchitectureError(
                f"the config does not fit the architecture {self.spec.model_type!r}: "
                f"{shown!r} fails: {error}",
                file=self.config.file,
            ) from error

    def holds(self, condition: str | None) -> bool:
        """Whether a condition holds; None always holds."""
        return condition is None or bool(self.evaluate(condition))

    def evaluate_size(self, text: str | ast.expr) -> int:
        """Returns the value of an expression that must be a non-negative integer."""
        value = self.evaluate(text)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            shown = text if isinstance(text, str) else ast.unparse(text)
            raise ArchitectureError(
                f"{shown!r} is not a size",
                file=self.config.file,
                expected="a non-negative integer",
                found=repr(value),
            )
        return value

    def index_combinations(self, fields: tuple[str, ...]) -> Iterator[dict[str, int]]:
        """Yields every combination of the indices; an inner count may depend on an outer index."""
        if not fields:
            yield dict(self.indices)
            return
        first, rest = fields[0], fields[1:]
        count = self.evaluate_size(self.spec.repeat[first])
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
    """Returns all parameters of a class.

    One line of an architecture file stands for a module in every layer:

    >>> from equipoise.convert.architectures.spec import load_spec
    >>> spec = load_spec("bert")
    >>> config = Config({"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 32})
    >>> expansion = expand(spec, spec.classes["Model"], config)
    >>> for name, parameter in expansion.parameters.items():
    ...     if parameter.template == "bert.encoder.layer.{layer}.intermediate.dense.weight":
    ...         print(name, parameter.shape)
    bert.encoder.layer.0.intermediate.dense.weight (32, 8)
    bert.encoder.layer.1.intermediate.dense.weight (32, 8)

    Raises:
        ArchitectureError: The config lacks a field, or a size or count is out of range.
        SpecError: The architecture file is not valid.
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
    """Returns the class that is mounted at the part's path, expanded with the nested config."""
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
    """Removes ties to parameters that the class does not have."""
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
            raise SpecError(
                f"part {name!r} names no architecture {part.spec!r}", file=scope.spec.file
            )
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
            template_name = f"{module.path}.{leaf}" if leaf else module.path
            tie = scope.spec.ties.get(template_name)
            yield Parameter(
                name=name,
                module=path,
                template=template_name,
                kind=kind,
                leaf=leaf,
                shape=shape,
                indices=dict(indices),
                tied_to=name_templates.format_name(tie.to, indices) if tie else None,
                shared=tie is not None and scope.holds(tie.when),
                one_tensor=tie is not None and tie.one_tensor,
                computed=_generator_name(scope, template_name, MODULE_KINDS[kind], leaf),
                dtype=MODULE_KINDS[kind].integers.get(leaf),
                absent=scope.spec.absent.get(template_name, ""),
            )


def _generator_name(
    scope: ExpressionScope, template_name: str, kind: ModuleKind, leaf: str
) -> str | None:
    entry = scope.spec.computed.get(template_name)
    if leaf in kind.integers and entry is None:
        return "unused"
    if isinstance(entry, Mapping):
        entry = str(entry["to"]) if scope.holds(entry["when"]) else None
    if entry is None or "(" not in entry:
        return entry
    node = ast.parse(entry, mode="eval").body
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError(f"not a generator: {entry!r}", file=scope.spec.file)
    numbers = (float(scope.evaluate(one)) for one in node.args)
    return f"{node.func.id}({', '.join(map(str, numbers))})"


def _parse_kind(scope: ExpressionScope, text: str) -> tuple[str, dict[str, Any]]:
    """Returns the kind of a module and its arguments, with sizes evaluated."""
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
        return name, {"shape": tuple(scope.evaluate_size(arg) for arg in node.args)}
    if len(node.args) != len(kind.arguments):
        raise SpecError(
            f"{text!r} does not have the arguments {kind.arguments}", file=scope.spec.file
        )
    sizes = {
        key: scope.evaluate_size(arg) for key, arg in zip(kind.arguments, node.args, strict=True)
    }
    switches = {key.arg: scope.evaluate(key.value) for key in node.keywords if key.arg}
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
