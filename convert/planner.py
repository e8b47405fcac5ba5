"""Works out a plan: what becomes of every tensor, from headers alone."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from equipoise.convert.account import Account
from equipoise.convert.architecture import find_class, match
from equipoise.convert.checkpoint import Checkpoint
from equipoise.convert.errors import InputError
from equipoise.convert.graph import format_named, route
from equipoise.convert.layouts import Format, View, layout_module
from equipoise.convert.ops import Shape
from equipoise.convert.rule import Rule, compose
from equipoise.convert.shards import group_aliases, split_shards
from equipoise.convert.source import Source
from equipoise.convert.steps import DTYPE_NAMES, SOURCE, TARGET, Entry, Plan, Status, Step
from equipoise.convert.tensor import DType, TensorHeader, dtype_named
from equipoise.convert.unwritten import account_for_unwritten, unneeded


def plan(
    checkpoint: Checkpoint,
    to: str,
    *,
    dtype: str | None = None,
    architecture: str | None = None,
    allow: Mapping[str, str] | None = None,
    allow_lossy: bool = False,
    max_shard_size: int | None = None,
    partial: bool = False,
) -> Plan:
    """Plans a conversion from headers alone.

    Args:
        checkpoint: The source.
        to: A layout or a format.
        dtype: ``fp32``, ``fp16`` or ``bf16`` casts every floating tensor; None keeps all dtypes.
        architecture: A model type or class, where the config's is not to be followed.
        allow: Tensors that may be lost although the plan would refuse -> the reason; a name may have ``*``.
        allow_lossy: Leaves out every tensor that the target's class has no place for, and notes it, instead of refusing.
        max_shard_size: Bytes of tensors in a file; None writes one file.
        partial: Leaves unknown, missing and misshapen tensors to the caller instead of refusing them: for a loader
            that reports them itself.

    Raises:
        CoverageError: A tensor is unknown, missing, of wrong shape or cannot be represented.
        ArchitectureError: The architecture is unknown.
        CheckpointError: There is no such target.
    """
    if dtype is not None and dtype not in DTYPE_NAMES:
        raise InputError(f"unknown dtype {dtype!r}", expected=", ".join(DTYPE_NAMES))
    layout, form = format_named(to)
    limit = max_shard_size or sys.maxsize
    allowed = _expand_allowed(checkpoint, allow or {})
    if checkpoint.layout == layout and architecture is None:
        planned = _same_layout(checkpoint, layout, form, dtype, limit)
    else:
        account = Account(allowed, lossy=allow_lossy)
        planner = Planner(checkpoint, layout, form, dtype, architecture, account, limit, partial)
        planned = planner.plan()
    options = {
        "architecture": architecture,
        "max_shard_size": max_shard_size,
        "allow": dict(allow or {}),
        "allow_lossy": allow_lossy,
    }
    return replace(planned, options=options)


def _expand_allowed(checkpoint: Checkpoint, allow: Mapping[str, str]) -> dict[str, str]:
    """The names that patterns with ``*`` stand for.

    Raises:
        InputError: A name can only be a slip, or a loss has no reason.
    """
    found: dict[str, str] = {}
    for name, reason in allow.items():
        names = [name] if name in checkpoint.tensors else fnmatch.filter(checkpoint.tensors, name)
        if not names:
            raise InputError(
                "allowed to be lost, but there is no such tensor",
                file=checkpoint.path,
                tensor=name,
                hint="name it as the file does; `equipoise inspect --tensors` lists the names",
            )
        if not reason.strip():
            raise InputError("allowed to be lost without a reason", tensor=name)
        found.update(dict.fromkeys(names, reason))
    return found


def _same_layout(
    checkpoint: Checkpoint, layout: str, form: Format, dtype: str | None, limit: int
) -> Plan:
    """Another container, the same names: no architecture has to be known."""
    view = _view_if_needed(checkpoint, layout, form)
    steps = []
    account = Account({})
    for name, ref in sorted(checkpoint.in_layout(layout).items()):
        header = _header(name, ref.shape, _cast(ref.dtype, dtype), layout, form, view)
        steps.append(Step((ref.name,), (), (name,), (name,), (header,)))
        account.mapped((ref.name,), (header.name,))
    for name, reason in checkpoint.left_out.items():
        account.left_out(name, reason)
    aliases = group_aliases(steps, view) if view and form.container == "keras_hdf5" else []
    shards = split_shards(steps, aliases, form, view, limit)
    return Plan(checkpoint, (layout,), form, None, shards, (), tuple(account.coverage), dtype, view)


def _view_if_needed(checkpoint: Checkpoint, layout: str, form: Format) -> View | None:
    """Layers and the model's name in an HDF5 file come from the architecture."""
    needed = form.container == "keras_hdf5" or layout == "tensorflow"
    return find_class(checkpoint).view if needed else None


def _tagged(tag: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that have a tag, without it, each once."""
    return tuple(dict.fromkeys(name.removeprefix(tag) for name in names if name.startswith(tag)))


def _cast(own: DType, dtype: str | None) -> DType:
    """The dtype after ``--dtype``, which leaves integers, booleans and complex numbers alone."""
    floating = own.kind == "f" or own.name.startswith(("bfloat", "float8"))
    return dtype_named(DTYPE_NAMES[dtype]) if dtype and floating else own


def _header(
    name: str, shape: Shape, dtype: DType, layout: str, form: Format, view: View | None
) -> TensorHeader:
    variant = "keras" if form.container == "keras_hdf5" else ""
    spelled = layout_module(layout).encode(name, form.container, variant, view)
    group = view.groups.get(name, "") if view else ""
    return TensorHeader(spelled, dtype, shape, group)


class Planner:
    """Builds the plan between two layouts; one instance a plan."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: str,
        form: Format,
        dtype: str | None,
        architecture: str | None,
        account: Account,
        limit: int,
        partial: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.layout = layout
        self.form = form
        self.dtype = dtype
        self.limit = limit
        self.partial = partial
        self.account = account
        self.filled: list[str] = []
        self.source = Source(checkpoint, find_class(checkpoint, architecture))
        self.expansion = self.source.expansion
        self.view: View = match(self.expansion, layout, ()).view

    def plan(self) -> Plan:
        """The plan.

        Raises:
            CoverageError: Something is unaccounted for.
        """
        cls = self.expansion.cls
        origin = self.source.match.layout
        message = f"cannot convert this {cls.name} from {origin} to {self.layout}:"
        self._check_class()
        if not self.partial:
            self.source.check_names(self.account)
            self.source.check_shapes(self.account)
        self.account.raise_problems(message, self.checkpoint.path)
        steps = self._steps()
        account_for_unwritten(self.source, self.layout, self.view, self.account)
        self.account.check_allow()
        self.account.raise_problems(message, self.checkpoint.path)
        return Plan(
            self.checkpoint,
            route(origin, self.layout),
            self.form,
            (self.expansion.spec.model_type, cls.name),
            split_shards(steps, self._aliases(steps), self.form, self.view, self.limit),
            tuple(self.account.checks),
            tuple(self.account.coverage),
            self.dtype,
            self.view,
            tuple(self._notes()),
        )

    def _check_class(self) -> None:
        cls = self.expansion.cls
        if self.layout not in cls.names:
            self.account.problems.append(
                f"{cls.name} has no class in {self.layout} (transformers 4.57.6 is the last release that "
                f"has such classes); convert to one of {', '.join(cls.names)}"
            )

    def _steps(self) -> list[Step]:
        """One step for every rule of the target, sources fused in."""
        first: dict[Rule, None] = {}
        second: list[Rule] = []
        generated: list[Step] = []
        for rule in self.view.rules:
            if all(unneeded(self.view, name) for name in rule.sources):
                continue
            origins = [self.source.origin(name) for name in rule.sources]
            if all(origin is not None for origin in origins):
                for name, origin in zip(rule.sources, origins, strict=True):
                    first[self._producer(name, str(origin))] = None
                second.append(rule)
            elif (step := self._generated(rule)) is not None:
                generated.append(step)
            elif not self.partial:
                for name in rule.sources:
                    self.account.problems.append(
                        f"{name!r} is needed and the source does not have it"
                    )
        before = [replace(rule, sources=tuple(SOURCE + n for n in rule.sources)) for rule in first]
        after = [replace(rule, targets=tuple(TARGET + n for n in rule.targets)) for rule in second]
        steps = [self._step(rules) for rules in compose(before, after)]
        return self._ordered([*steps, *generated])

    def _producer(self, name: str, origin: str) -> Rule:
        """The source's rule that gives a parameter, from the tensor of the one it repeats if need be."""
        rule = self.source.inverse[origin]
        if name == origin:
            return rule
        return replace(rule, targets=tuple(name if one == origin else one for one in rule.targets))

    def _generated(self, rule: Rule) -> Step | None:
        """A step for a parameter that follows from the config, or that old files lack."""
        parameter = self.expansion.parameters[rule.sources[0]]
        generator = parameter.generator
        if generator is None or len(rule.sources) > 1:
            return None
        own = self.view.dtypes.get(parameter.name, parameter.dtype)
        dtype = dtype_named(own) if own else self._float_dtype()
        (shape,) = rule.shapes((parameter.shape,))
        header = self._target_header(rule.targets[0], shape, dtype)
        self.account.coverage.append(
            Entry("target", header.name, Status.COMPUTED, reason=parameter.absent or generator)
        )
        if parameter.absent:
            self.filled.append(
                f"{header.name} is not in the source and is zeros: {parameter.absent}"
            )
        return Step((), (rule,), (parameter.name,), rule.targets, (header,), generator)

    def _float_dtype(self) -> DType:
        """The dtype of the checkpoint's first floating tensor."""
        refs = [self.source.ref(name) for name in self.source.match.stored]
        floats = [ref.dtype for ref in refs if _cast(ref.dtype, "fp32") == np.dtype("float32")]
        return _cast(floats[0] if floats else np.dtype("float32"), self.dtype)

    def _target_header(self, name: str, shape: Shape, dtype: DType) -> TensorHeader:
        return _header(name, shape, dtype, self.layout, self.form, self.view)

    def _step(self, rules: tuple[Rule, ...]) -> Step:
        inputs = _tagged(SOURCE, [name for rule in rules for name in rule.sources])
        outputs = _tagged(TARGET, [name for rule in rules for name in rule.targets])
        refs = [self.source.ref(name) for name in inputs]
        shapes: dict[str, Shape] = {
            SOURCE + name: ref.shape for name, ref in zip(inputs, refs, strict=True)
        }
        for rule in rules:
            after = rule.shapes(tuple(shapes[name] for name in rule.sources))
            shapes.update(zip(rule.targets, after, strict=True))
        dtypes = {ref.dtype for ref in refs}
        if len(dtypes) > 1:
            self.account.problems.append(
                f"{', '.join(ref.name for ref in refs)} become one tensor and have different dtypes: "
                f"{', '.join(sorted(dtype.name for dtype in dtypes))}; cast with --dtype"
            )
        dtype = _cast(refs[0].dtype, self.dtype)
        headers = tuple(self._target_header(name, shapes[TARGET + name], dtype) for name in outputs)
        names = tuple(ref.name for ref in refs)
        self.account.mapped(names, [header.name for header in headers])
        return Step(names, rules, inputs, outputs, headers)

    def _ordered(self, steps: list[Step]) -> list[Step]:
        """Steps in the order of the target's rules; Flax sorts every level of its tree by key."""
        if self.layout == "flax":
            return sorted(steps, key=lambda step: min(step.outputs).split("/"))
        rank = {
            name: index for index, name in enumerate(n for r in self.view.rules for n in r.targets)
        }
        return sorted(steps, key=lambda step: min(rank[name] for name in step.outputs))

    def _aliases(self, steps: list[Step]) -> list[TensorHeader]:
        """Names that repeat a written tensor, for containers that share bytes at no cost."""
        view = self.view
        written = {
            name: header
            for step in steps
            for name, header in zip(step.outputs, step.targets, strict=True)
        }
        if self.form.container == "pytorch":
            pairs = [(name, view.shared[name]) for name in view.shared]
            return [alias for name, to in pairs if (alias := self._alias(name, to, written))]
        if self.form.container == "keras_hdf5":
            return group_aliases(steps, view)
        return []

    def _alias(
        self, name: str, to: str, written: Mapping[str, TensorHeader]
    ) -> TensorHeader | None:
        shared = self.view.shared
        while to in shared:
            to = shared[to]
        names = {rule.sources[0]: rule.targets[0] for rule in self.view.rules}
        header = written.get(names.get(to, ""))
        if header is None or name not in names:
            return None
        return replace(header, name=names[name], alias_of=header.name)

    def _spellings(self) -> Iterator[str]:
        """What is said of names that are none of the class's own, though it is plain what they mean."""
        stored = self.source.match.stored
        other = [(name, own) for own, name in stored.items() if name != own]
        if other:
            name, own = other[0]
            yield f"{len(other)} names are spelled otherwise: {name!r} is taken for {own!r}"
        refs = self.source.refs
        wrapped = [ref.name for name, ref in refs.items() if ref.name != name]
        if wrapped and self.source.match.layout == "pytorch":
            yield f"{len(wrapped)} names have a wrapper's parts in them: {wrapped[0]!r}"

    def _notes(self) -> list[str]:
        notes = [*self.account.lost, *self.checkpoint.oddities, *self._spellings(), *self.filled]
        said = self.checkpoint.layout
        if said is not None and said != self.source.match.layout:
            notes.append(
                f"the file says its layout is {said}; its names are {self.source.match.layout}'s"
            )
        config = self.checkpoint.config
        named = config.architectures if config else ()
        if named and self.expansion.spec.class_named(named[0]) != self.expansion.cls:
            notes.append(
                f"the config names {named[0]}; the tensors are those of {self.expansion.cls.name}"
            )
        for layout, view in (
            (self.source.match.layout, self.source.match.view),
            (self.layout, self.view),
        ):
            if view.wrong:
                name = self.expansion.cls.names[layout]
                notes.append(
                    f"{name} answers otherwise than PyTorch from the same weights: {view.wrong}"
                )
        bare = [n for n, group in self.view.groups.items() if not group]
        if bare and self.form.container == "keras_hdf5":
            notes.append(
                f"{', '.join(bare)} belongs to no layer; TensorFlow's HDF5 loader never reads such weights, "
                "--to tensorflow-safetensors keeps them"
            )
        return notes
