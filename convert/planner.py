"""Works out a plan: what becomes of every tensor, from headers alone."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from equipoise.convert.architecture import Match, find_class, match
from equipoise.convert.checkpoint import Checkpoint
from equipoise.convert.errors import CoverageError, InputError
from equipoise.convert.expand import Parameter, expand
from equipoise.convert.graph import format_named, route
from equipoise.convert.layouts import Format, View, layout_module
from equipoise.convert.ops import Shape
from equipoise.convert.rule import Rule, compose
from equipoise.convert.shards import group_aliases, split_shards
from equipoise.convert.steps import (
    DTYPE_NAMES,
    SOURCE,
    TARGET,
    Check,
    Entry,
    Plan,
    Status,
    Step,
)
from equipoise.convert.tensor import DType, TensorHeader, TensorRef, dtype_named


def plan(
    checkpoint: Checkpoint,
    to: str,
    *,
    dtype: str | None = None,
    architecture: str | None = None,
    allow: Mapping[str, str] | None = None,
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
        planner = Planner(checkpoint, layout, form, dtype, architecture, allowed, limit, partial)
        planned = planner.plan()
    options = {
        "architecture": architecture,
        "max_shard_size": max_shard_size,
        "allow": dict(allow or {}),
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
    coverage = []
    for name, ref in sorted(checkpoint.in_layout(layout).items()):
        header = _header(name, ref.shape, _cast(ref.dtype, dtype), layout, form, view)
        steps.append(Step((ref.name,), (), (name,), (name,), (header,)))
        coverage += _mapped((ref.name,), (header.name,))
    coverage += [
        Entry("source", name, Status.LEFT_OUT, reason=reason)
        for name, reason in checkpoint.left_out.items()
    ]
    aliases = group_aliases(steps, view) if view and form.container == "keras_hdf5" else []
    shards = split_shards(steps, aliases, form, view, limit)
    return Plan(checkpoint, (layout,), form, None, shards, (), tuple(coverage), dtype, view)


def _view_if_needed(checkpoint: Checkpoint, layout: str, form: Format) -> View | None:
    """Layers and the model's name in an HDF5 file come from the architecture."""
    needed = form.container == "keras_hdf5" or layout == "tensorflow"
    return find_class(checkpoint).view if needed else None


def _tagged(tag: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that have a tag, without it, each once."""
    return tuple(dict.fromkeys(name.removeprefix(tag) for name in names if name.startswith(tag)))


def _mapped(sources: Sequence[str], targets: Sequence[str]) -> list[Entry]:
    return [
        *(Entry("source", name, Status.MAPPED, tuple(targets)) for name in sources),
        *(Entry("target", name, Status.MAPPED, tuple(sources)) for name in targets),
    ]


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
        allow: dict[str, str],
        limit: int,
        partial: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.layout = layout
        self.form = form
        self.dtype = dtype
        self.allow = allow
        self.limit = limit
        self.partial = partial
        self.source = find_class(checkpoint, architecture)
        self.expansion = self.source.expansion
        self.target: Match = match(self.expansion, layout, ())
        self.refs: dict[str, TensorRef] = checkpoint.in_layout(self.source.layout)
        self.problems: list[str] = []
        self.coverage: list[Entry] = []
        self.checks: list[Check] = []
        self.tied: dict[str, str] = {}
        self.inverse = {
            name: rule.inverse for rule in self.source.view.rules for name in rule.sources
        }

    def plan(self) -> Plan:
        """The plan.

        Raises:
            CoverageError: Something is unaccounted for.
        """
        self._check_class()
        if not self.partial:
            self._check_names()
            self._check_shapes()
        self._raise_problems()
        steps = self._steps()
        self._account_for_unwritten()
        self._check_allow()
        self._raise_problems()
        cls = self.expansion.cls
        return Plan(
            self.checkpoint,
            route(self.source.layout, self.layout),
            self.form,
            (self.expansion.spec.model_type, cls.name),
            split_shards(steps, self._aliases(steps), self.form, self.target.view, self.limit),
            tuple(self.checks),
            tuple(self.coverage),
            self.dtype,
            self.target.view,
            tuple(self._notes()),
        )

    def _raise_problems(self) -> None:
        if self.problems:
            cls = self.expansion.cls.name
            raise CoverageError(
                f"cannot convert this {cls} from {self.source.layout} to {self.layout}:",
                self.problems,
                file=self.checkpoint.path,
            )

    def _allowed(self, name: str, side: str) -> bool:
        """Whether the user allowed the loss of a tensor, by the name in the file."""
        if name not in self.allow:
            return False
        self.coverage.append(Entry(side, name, Status.ALLOWED, reason=self.allow[name]))
        return True

    def _check_allow(self) -> None:
        """An override that overrides nothing is a mistake, most likely in the name."""
        used = {entry.name for entry in self.coverage if entry.status is Status.ALLOWED}
        if self.allow and not used:
            names = ", ".join(list(self.allow)[:4])
            self.problems.append(f"--allow: nothing had to be allowed for {names}")

    def _check_class(self) -> None:
        cls = self.expansion.cls
        if self.layout not in cls.names:
            self.problems.append(
                f"{cls.name} has no class in {self.layout} (transformers 4.57.6 is the last release that "
                f"has such classes); convert to one of {', '.join(cls.names)}"
            )

    def _check_names(self) -> None:
        """Unknown and missing tensors of the source."""
        for name in self.source.unknown:
            spelled = self.refs[name].name
            if not self._allowed(spelled, "source"):
                self.problems.append(
                    f"{spelled!r} is unknown to {self.expansion.cls.name}{self._elsewhere(name)}: leave it "
                    f"out with --allow '{spelled}=REASON', or name the right class with --architecture"
                )
        for name in self.source.missing:
            shape = self._stored_shape(name)
            self.problems.append(
                f"{name!r} {list(shape)} is missing: the checkpoint is incomplete, or the config "
                f"({self.checkpoint.config.file if self.checkpoint.config else 'none'}) is another model's"
            )

    def _elsewhere(self, stored: str) -> str:
        """Which classes of the architecture do know a name."""
        spec, config = self.expansion.spec, self.expansion.config
        found = [
            cls.name
            for cls in spec.classes.values()
            if stored not in match(expand(spec, cls, config), self.source.layout, [stored]).unknown
        ]
        return f" (it belongs to {', '.join(found[:3])})" if found else ""

    def _stored_shape(self, stored: str) -> Shape:
        """The shape that the source layout should have under a stored name."""
        for rule in self.source.view.rules:
            if stored in rule.targets:
                shapes = rule.shapes(self._shapes(rule.sources))
                return shapes[rule.targets.index(stored)]
        raise KeyError(stored)

    def _shapes(self, parameters: Sequence[str]) -> tuple[Shape, ...]:
        return tuple(self.expansion.parameters[name].shape for name in parameters)

    def _check_shapes(self) -> None:
        for rule in self.source.view.rules:
            for stored, expected in zip(
                rule.targets, rule.shapes(self._shapes(rule.sources)), strict=True
            ):
                if stored not in self.source.stored:
                    continue
                ref = self.refs[self.source.stored[stored]]
                if ref.shape != expected:
                    self.problems.append(
                        f"{ref.name!r} has shape {list(ref.shape)}, the config says {list(expected)}: the "
                        "config is another model's, or was changed after saving"
                    )

    def _origin(self, name: str) -> str | None:
        """The parameter whose stored tensor serves ``name``: itself, or the one it repeats."""
        rule = self.inverse.get(name)
        if rule is not None and all(one in self.source.stored for one in rule.sources):
            return name
        view = self.source.view
        repeats = view.shared.get(name, view.repeated.get(name))
        return self._origin(repeats) if repeats is not None else None

    def _steps(self) -> list[Step]:
        """One step for every rule of the target, sources fused in."""
        first: dict[Rule, None] = {}
        second: list[Rule] = []
        generated: list[Step] = []
        for rule in self.target.view.rules:
            if all(self._unwritten(name) for name in rule.sources):
                continue
            origins = [self._origin(name) for name in rule.sources]
            if all(origin is not None for origin in origins):
                for name, origin in zip(rule.sources, origins, strict=True):
                    first[self._producer(name, str(origin))] = None
                second.append(rule)
            elif (step := self._generated(rule)) is not None:
                generated.append(step)
            elif not self.partial:
                for name in rule.sources:
                    self.problems.append(f"{name!r} is needed and the source does not have it")
        before = [replace(rule, sources=tuple(SOURCE + n for n in rule.sources)) for rule in first]
        after = [replace(rule, targets=tuple(TARGET + n for n in rule.targets)) for rule in second]
        steps = [self._step(rules) for rules in compose(before, after)]
        return self._ordered([*steps, *generated])

    def _unwritten(self, name: str) -> bool:
        """Whether the target's file does without a parameter that it could name."""
        return name in self.target.view.shared or name in self.target.view.left_out

    def _producer(self, name: str, origin: str) -> Rule:
        """The source's rule that gives a parameter, from the tensor of the one it repeats if need be."""
        rule = self.inverse[origin]
        if name == origin:
            return rule
        self.tied[name] = origin
        return replace(rule, targets=tuple(name if one == origin else one for one in rule.targets))

    def _generated(self, rule: Rule) -> Step | None:
        """A step for a parameter that follows from the config."""
        parameter = self.expansion.parameters[rule.sources[0]]
        if parameter.computed is None or len(rule.sources) > 1:
            return None
        dtype = dtype_named(parameter.dtype) if parameter.dtype else self._float_dtype()
        (shape,) = rule.shapes((parameter.shape,))
        header = self._target_header(rule.targets[0], shape, dtype)
        self.coverage.append(
            Entry("target", header.name, Status.COMPUTED, reason=parameter.computed)
        )
        return Step((), (rule,), (parameter.name,), rule.targets, (header,), parameter.computed)

    def _float_dtype(self) -> DType:
        """The dtype of the checkpoint's first floating tensor."""
        refs = [self.refs[name] for name in self.source.stored.values()]
        floats = [ref.dtype for ref in refs if _cast(ref.dtype, "fp32") == np.dtype("float32")]
        return _cast(floats[0] if floats else np.dtype("float32"), self.dtype)

    def _target_header(self, name: str, shape: Shape, dtype: DType) -> TensorHeader:
        return _header(name, shape, dtype, self.layout, self.form, self.target.view)

    def _step(self, rules: tuple[Rule, ...]) -> Step:
        inputs = _tagged(SOURCE, [name for rule in rules for name in rule.sources])
        outputs = _tagged(TARGET, [name for rule in rules for name in rule.targets])
        refs = [self.refs[self.source.stored[name]] for name in inputs]
        shapes: dict[str, Shape] = {
            SOURCE + name: ref.shape for name, ref in zip(inputs, refs, strict=True)
        }
        for rule in rules:
            after = rule.shapes(tuple(shapes[name] for name in rule.sources))
            shapes.update(zip(rule.targets, after, strict=True))
        dtypes = {ref.dtype for ref in refs}
        if len(dtypes) > 1:
            self.problems.append(
                f"{', '.join(ref.name for ref in refs)} become one tensor and have different dtypes: "
                f"{', '.join(sorted(dtype.name for dtype in dtypes))}; cast with --dtype"
            )
        dtype = _cast(refs[0].dtype, self.dtype)
        headers = tuple(self._target_header(name, shapes[TARGET + name], dtype) for name in outputs)
        names = tuple(ref.name for ref in refs)
        self.coverage += _mapped(names, [header.name for header in headers])
        return Step(names, rules, inputs, outputs, headers)

    def _ordered(self, steps: list[Step]) -> list[Step]:
        """Steps in the order of the target's rules; Flax sorts every level of its tree by key."""
        if self.layout == "flax":
            return sorted(steps, key=lambda step: min(step.outputs).split("/"))
        rank = {
            name: index
            for index, name in enumerate(n for r in self.target.view.rules for n in r.targets)
        }
        return sorted(steps, key=lambda step: min(rank[name] for name in step.outputs))

    def _account_for_unwritten(self) -> None:
        """What the source stores and the target does not: ties, computed tensors, refusals."""
        for name, parameter in self.expansion.parameters.items():
            stored = self._stored_name(name)
            if stored is None or name in self._written():
                continue
            view = self.target.view
            reason = view.refused.get(name)
            twin = self._twin(name, view)
            if reason is not None and not self._identical(stored, twin):
                self._refuse(stored, reason)
            elif twin is not None:
                self._tie(stored, twin, parameter)
            elif name in view.left_out:
                self._leave_out(stored, parameter, view.left_out[name])
            elif name not in view.refused:
                self._refuse(stored, f"{self.layout} has no place for it")
        for name, reason in self.source.ignored.items():
            entry = Entry("source", self.refs[name].name, Status.LEFT_OUT, reason=reason)
            self.coverage.append(entry)
        for name, reason in self.checkpoint.left_out.items():
            self.coverage.append(Entry("source", name, Status.LEFT_OUT, reason=reason))

    def _written(self) -> set[str]:
        return {
            name
            for rule in self.target.view.rules
            for name in rule.sources
            if not self._unwritten(name)
        }

    def _stored_name(self, name: str) -> str | None:
        """The file's name of a parameter's own tensor in the source, or None."""
        rule = self.inverse.get(name)
        if rule is None or rule.sources[0] not in self.source.stored:
            return None
        return self.refs[self.source.stored[rule.sources[0]]].name

    def _twin(self, name: str, view: View) -> str | None:
        """The source tensor that the target uses for a parameter that it shares with another."""
        repeats = view.shared.get(name)
        while repeats is not None and repeats in view.shared:
            repeats = view.shared[repeats]
        origin = self._origin(repeats) if repeats is not None else None
        return self._stored_name(origin) if origin is not None else None

    def _identical(self, stored: str, twin: str | None) -> bool:
        """Whether two tensors of the source are the same bytes by construction."""
        if twin is None:
            return False
        first, second = self.checkpoint[stored].identity, self.checkpoint[twin].identity
        return stored == twin or (first is not None and first == second)

    def _refuse(self, stored: str, reason: str) -> None:
        if not self._allowed(stored, "source"):
            self.problems.append(
                f"{stored!r} cannot be represented: {reason}; --allow '{stored}=REASON' converts without it"
            )

    def _tie(self, stored: str, twin: str, parameter: Parameter) -> None:
        if self._allowed(stored, "source"):
            return
        reason = f"stored once, as {twin!r}"
        self.coverage.append(Entry("source", stored, Status.TIED, (twin,), reason))
        if not self._identical(stored, twin):
            text = f"{self.layout} stores {parameter.name!r} once with {twin!r}"
            self.checks.append(Check(stored, twin, None, parameter.shape, text))

    def _leave_out(self, stored: str, parameter: Parameter, reason: str) -> None:
        if self._allowed(stored, "source"):
            return
        self.coverage.append(Entry("source", stored, Status.LEFT_OUT, reason=reason))
        if parameter.computed not in (None, "unused"):
            self.checks.append(Check(stored, None, parameter.computed, parameter.shape, reason))

    def _aliases(self, steps: list[Step]) -> list[TensorHeader]:
        """Names that repeat a written tensor, for containers that share bytes at no cost."""
        view = self.target.view
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
        shared = self.target.view.shared
        while to in shared:
            to = shared[to]
        names = {rule.sources[0]: rule.targets[0] for rule in self.target.view.rules}
        header = written.get(names.get(to, ""))
        if header is None or name not in names:
            return None
        return replace(header, name=names[name], alias_of=header.name)

    def _notes(self) -> list[str]:
        notes = list(self.checkpoint.oddities)
        said = self.checkpoint.layout
        if said is not None and said != self.source.layout:
            notes.append(
                f"the file says its layout is {said}; its names are {self.source.layout}'s"
            )
        config = self.checkpoint.config
        named = config.architectures if config else ()
        if named and self.expansion.spec.class_named(named[0]) != self.expansion.cls:
            notes.append(
                f"the config names {named[0]}; the tensors are those of {self.expansion.cls.name}"
            )
        bare = [n for n, group in self.target.view.groups.items() if not group]
        if bare and self.form.container == "keras_hdf5":
            notes.append(
                f"{', '.join(bare)} belongs to no layer; TensorFlow's HDF5 loader never reads such weights, "
                "--to tensorflow-safetensors keeps them"
            )
        return notes
