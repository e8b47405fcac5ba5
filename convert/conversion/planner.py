"""Plans a conversion: decides from headers alone what becomes of every tensor."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.find_class import (
    find_class,
    find_class_if_known,
    with_fitted_config,
)
from equipoise.convert.checkpoints.match_notes import (
    notes_on_classes,
    notes_on_groups,
    notes_on_match,
    notes_on_wrappers,
    unproven_layouts,
)
from equipoise.convert.checkpoints.matching import (
    MatchedCheckpoint,
    layout_view,
    stored_shapes,
)
from equipoise.convert.checkpoints.preset_files import notes_on_companions
from equipoise.convert.checkpoints.sentence_modules import notes_on_left_files
from equipoise.convert.conversion.coverage import CoverageLedger, expand_patterns
from equipoise.convert.conversion.dropped_tensors import is_omittable, record_dropped_tensors
from equipoise.convert.conversion.plan_types import CAST_DTYPES, Plan, PlanTarget, Step
from equipoise.convert.conversion.routes import find_format, find_route
from equipoise.convert.conversion.shards import group_aliases, split_shards
from equipoise.convert.conversion.source_checks import (
    check_class,
    check_has_tensors,
    check_source,
    empty_tensors_cause,
    leave_head_out,
    replicated_cause,
)
from equipoise.convert.core.arrays import DType, Shape
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, InputError
from equipoise.convert.core.rules import Namespace, Rule, StepRule, compose
from equipoise.convert.core.tensor import (
    TensorHeader,
    dtype_named,
    first_float_dtype,
)

_NO_MODEL_TYPE = (
    "config.json has no model type, which AutoConfig needs; --architecture NAME writes it"
)


def plan(
    checkpoint: Checkpoint,
    to: str,
    *,
    dtype: str | None = None,
    architecture: str | None = None,
    allow: Mapping[str, str] | None = None,
    allow_lossy: bool = False,
    unproven: bool = False,
    max_shard_size: int | None = None,
    partial: bool = False,
) -> Plan:
    """Plans a conversion from headers alone.

    Every tensor of the source and of the target is mapped, tied, computed, left out for a reason, or an allowed
    loss; otherwise the plan is refused.

    >>> from equipoise.convert import open_checkpoint
    >>> planned = plan(open_checkpoint("fixtures/checkpoints/sentiment"), "pytorch")
    >>> planned.route
    ('tensorflow', 'pytorch')
    >>> step = next(step for step in planned.steps if "query/kernel" in step.sources[0])
    >>> step.sources
    ('tf_bert_for_sequence_classification/bert/encoder/layer_._0/attention/self/query/kernel:0',)
    >>> step.rules[0].rule.ops, step.targets[0].name
    ((Permute(axes=(1, 0)),), 'bert.encoder.layer.0.attention.self.query.weight')
    >>> {entry.status.value for entry in planned.coverage}
    {'mapped'}

    Args:
        checkpoint: The source.
        to: A layout or a format.
        dtype: ``fp32``, ``fp16`` or ``bf16`` casts every floating-point tensor; None keeps all dtypes.
        architecture: A model type or class to use instead of the config's.
        allow: Tensors that may be lost although the plan would be refused -> the reason; a name may contain ``*``.
        allow_lossy: Leaves out every tensor that the target's class cannot hold, with a note, instead of refusing.
        unproven: Converts where no code of others has judged a layout of this class, with a note, instead of refusing.
        max_shard_size: Largest number of tensor bytes in a file; None writes one file.
        partial: Accepts unknown, missing and wrongly shaped tensors: for a loader that reports them itself.

    Raises:
        CoverageError: A tensor is unknown, missing, wrongly shaped or cannot be represented.
        ArchitectureError: The architecture is unknown, or not proven in this layout.
        CheckpointError: There is no such target.
    """
    if dtype is not None and dtype not in CAST_DTYPES:
        raise InputError(f"unknown dtype {dtype!r}", expected=", ".join(CAST_DTYPES))
    layout, target_format = find_format(to)
    target = PlanTarget(layout, target_format, None, dtype, max_shard_size or sys.maxsize)
    allowed = expand_patterns(checkpoint.tensors, allow or {}, checkpoint.path)
    if _stays_in_layout(checkpoint, layout) and architecture is None:
        planned = _plan_same_layout(checkpoint, target)
    else:
        match = find_class(checkpoint, architecture)
        match = leave_head_out(match, layout) if allow_lossy else match
        checkpoint = with_fitted_config(checkpoint, match)
        source = MatchedCheckpoint(checkpoint, match)
        target = replace(target, view=layout_view(source.expansion, layout))
        ledger = CoverageLedger(allowed, lossy=allow_lossy)
        doubts = unproven_layouts(source, layout, target.view)
        if doubts and not unproven:
            raise ArchitectureError(f"{doubts[0]}; --unproven converts it", file=checkpoint.path)
        planned = _Planner(source, target, ledger, partial=partial).plan()
        planned = replace(planned, notes=(*doubts, *planned.notes))
    check_has_tensors(checkpoint)
    options = {
        "architecture": architecture,
        "max_shard_size": max_shard_size,
        "allow": dict(allow or {}),
        "allow_lossy": allow_lossy,
        "unproven": unproven,
        **checkpoint.choices,
    }
    notes = (
        *planned.notes,
        *notes_on_companions(checkpoint.folder, layout, planned.architecture),
        *notes_on_left_files(checkpoint.folder),
    )
    return replace(planned, options=options, notes=notes)


def _stays_in_layout(checkpoint: Checkpoint, layout: str) -> bool:
    """Whether the tensors have the layout already; where nothing says so, names of an unknown model in PyTorch's form count."""
    if checkpoint.layout is not None or layout != "pytorch":
        return checkpoint.layout == layout
    return find_class_if_known(checkpoint) is None and not any("/" in name for name in checkpoint)


def _plan_same_layout(checkpoint: Checkpoint, target: PlanTarget) -> Plan:
    """Plans a change of container or dtype alone: names stay, so that no architecture has to be known.

    Where one is known and fits, prefixes of classes around the model are removed and the config is corrected.
    """
    match = find_class_if_known(checkpoint)
    if match is not None and not match.fits and checkpoint.variant == "keras":
        match = None  # a Keras model of one's own with a known one in it; Keras wants its own names and order
    if target.format.container == "keras_hdf5" or target.layout == "tensorflow":
        # Layers and the model's own name in an HDF5 file come from the architecture.
        target = replace(target, view=match.view if match is not None else None)
        if match is None and target.format.container == "keras_hdf5" != checkpoint.container:
            raise CheckpointError(
                "Keras reads HDF5 by the order of layers and weights, which these files do not hold",
                file=checkpoint.path,
                expected="a model of a known architecture, or an HDF5 file of Keras",
                hint="--to tensorflow-safetensors keeps the names",
            )
    if cause := empty_tensors_cause(checkpoint.tensors.values()):
        raise CheckpointError(cause, file=checkpoint.path)
    is_known = match is not None
    if match is not None and not (match.layout == target.layout and match.fits):
        match = None
    if is_known:
        # Keras loads the weights of a model that is not known in the order of the file; others are sorted.
        found = checkpoint.in_layout(target.layout, match.prefix if match else "")
        refs = dict(sorted(found.items()))
    else:
        refs = checkpoint.in_names_of_files()
    notes = [*checkpoint.oddities, *notes_on_wrappers(checkpoint, refs, target.layout)]
    if match is not None:
        misfits = MatchedCheckpoint(checkpoint, match).misfits()
        notes += [cause] if (cause := replicated_cause(misfits, len(match.stored))) else []
        notes += match.notes
        checkpoint = with_fitted_config(checkpoint, match)
    elif checkpoint.config is not None and checkpoint.config.model_type is None:
        notes.append(_NO_MODEL_TYPE)
    steps = []
    ledger = CoverageLedger({})
    for name, ref in refs.items():
        header = target.header(name, ref.shape, target.cast(ref.dtype))
        # Equal tuples are one object: there may be many tensors.
        names = (name,)
        sources = names if ref.name == name else (ref.name,)
        steps.append(Step(sources, (), names, names, (header,)))
        ledger.add_mapped(sources, names if header.name == name else (header.name,))
    for name, reason in checkpoint.left_out.items():
        ledger.add_left_out(name, reason)
    view = target.view
    aliases = group_aliases(steps, view) if view and target.format.container == "keras_hdf5" else []
    return Plan(
        checkpoint,
        (target.layout,),
        target.format,
        None,
        split_shards(steps, aliases, target.format, view, target.max_shard_size),
        (),
        tuple(ledger.entries),
        target.dtype,
        view,
        tuple(notes),
    )


class _Planner:
    """Builds the plan between two layouts; one instance for one plan."""

    def __init__(
        self,
        source: MatchedCheckpoint,
        target: PlanTarget,
        ledger: CoverageLedger,
        *,
        partial: bool,
    ) -> None:
        self.source = source
        self.target = target
        self.ledger = ledger
        self.partial = partial
        self.checkpoint = source.checkpoint
        self.expansion = source.expansion
        self.view = layout_view(self.expansion, target.layout)
        self.zero_filled: list[str] = []
        self._fixed = {
            name: dtype_named(self.view.dtypes[rule.sources[0]])
            for rule in self.view.rules
            if rule.sources[0] in self.view.dtypes
            for name in rule.targets
        }

    def plan(self) -> Plan:
        cls = self.expansion.cls
        source_layout = self.source.match.layout
        message = f"cannot convert this {cls.name} from {source_layout} to {self.target.layout}:"
        check_class(self.expansion, self.target.layout, self.ledger)
        if not self.partial:
            check_source(self.source, self.target.layout, self.ledger)
        self.ledger.raise_problems(message, self.checkpoint.path)
        steps = self._steps()
        record_dropped_tensors(self.source, self.target.layout, self.view, self.ledger)
        self.ledger.check_allow_was_used()
        self.ledger.raise_problems(message, self.checkpoint.path)
        return Plan(
            self.checkpoint,
            find_route(source_layout, self.target.layout),
            self.target.format,
            (self.expansion.spec.model_type, cls.name),
            split_shards(
                steps,
                self._aliases(steps),
                self.target.format,
                self.view,
                self.target.max_shard_size,
            ),
            tuple(self.ledger.checks),
            tuple(self.ledger.entries),
            self.target.dtype,
            self.view,
            tuple(self._notes()),
        )

    def _steps(self) -> list[Step]:
        """Returns one step for every group of target rules, with the source's rules composed in."""
        to_parameters: dict[Rule, None] = {}
        to_targets: list[Rule] = []
        computed: list[Step] = []
        for rule in self.view.rules:
            if all(is_omittable(self.view, name) for name in rule.sources):
                continue
            stored_shapes(rule, self.expansion, self.target.layout)
            origins = [self.source.origin_to_copy(name) for name in rule.sources]
            if all(origin is not None for origin in origins):
                for name, origin in zip(rule.sources, origins, strict=True):
                    to_parameters[self._rule_to_parameter(name, str(origin))] = None
                to_targets.append(rule)
            elif (step := self._computed_step(rule)) is not None:
                computed.append(step)
            elif not self.partial:
                for name in rule.sources:
                    self.ledger.add_problem(
                        f"{name!r} is needed and the source does not have it",
                        "tensors are needed and the source does not have them",
                        repr(name),
                    )
        steps = [self._step(rules) for rules in compose(list(to_parameters), to_targets)]
        return self._sort([*steps, *computed])

    def _rule_to_parameter(self, name: str, origin: str) -> Rule:
        """Returns the source's rule that yields a parameter, from the tensor of its origin if it is tied."""
        rule = self.source.inverse[origin]
        if name == origin:
            return rule
        return replace(rule, targets=tuple(name if one == origin else one for one in rule.targets))

    def _computed_step(self, rule: Rule) -> Step | None:
        """Returns a step for a parameter that follows from the config, or that old files lack."""
        parameter = self.expansion.parameters[rule.sources[0]]
        generator = parameter.generator
        if generator is None or len(rule.sources) > 1:
            return None
        own = self.view.dtypes.get(parameter.name, parameter.dtype)
        dtype = dtype_named(own) if own else self._float_dtype()
        (shape,) = stored_shapes(rule, self.expansion, self.target.layout)
        header = self.target.header(rule.targets[0], shape, dtype)
        self.ledger.add_computed(header.name, parameter.absent or generator)
        if parameter.absent:
            self.zero_filled.append(
                f"{header.name} is not in the source and is zeros: {parameter.absent}"
            )
        step_rule = StepRule(rule, Namespace.PARAMETER, Namespace.TARGET)
        return Step((), (step_rule,), (parameter.name,), rule.targets, (header,), generator)

    def _float_dtype(self) -> DType:
        """Returns the target's dtype for the checkpoint's first floating-point tensor."""
        refs = (self.source.ref(name) for name in self.source.match.stored)
        return self.target.cast(first_float_dtype(refs))

    def _step(self, rules: tuple[StepRule, ...]) -> Step:
        inputs = _names(
            name for one in rules if one.reads is Namespace.SOURCE for name in one.rule.sources
        )
        outputs = _names(
            name for one in rules if one.writes is Namespace.TARGET for name in one.rule.targets
        )
        refs = [self.source.ref(name) for name in inputs]
        shapes: dict[tuple[Namespace, str], Shape] = {
            (Namespace.SOURCE, name): ref.shape for name, ref in zip(inputs, refs, strict=True)
        }
        for one in rules:
            found = one.rule.shapes(tuple(shapes[one.reads, name] for name in one.rule.sources))
            shapes.update(
                ((one.writes, name), shape)
                for name, shape in zip(one.rule.targets, found, strict=True)
            )
        dtypes = {ref.dtype for ref in refs}
        if len(dtypes) > 1:
            self.ledger.add_problem(
                f"{', '.join(ref.name for ref in refs)} become one tensor and have different dtypes: "
                f"{', '.join(sorted(dtype.name for dtype in dtypes))}; cast with --dtype"
            )
        dtype = self.target.cast(refs[0].dtype)
        headers = tuple(
            self.target.header(name, shapes[Namespace.TARGET, name], self._fixed.get(name, dtype))
            for name in outputs
        )
        names = tuple(ref.name for ref in refs)
        self.ledger.add_mapped(names, [header.name for header in headers])
        return Step(names, rules, inputs, outputs, headers)

    def _sort(self, steps: list[Step]) -> list[Step]:
        """Returns the steps in the order of the target's rules; Flax sorts every level of its tree by key."""
        if self.target.layout == "flax":
            return sorted(steps, key=lambda step: min(step.outputs).split("/"))
        rank = {
            name: index for index, name in enumerate(n for r in self.view.rules for n in r.targets)
        }
        return sorted(steps, key=lambda step: min(rank[name] for name in step.outputs))

    def _aliases(self, steps: list[Step]) -> list[TensorHeader]:
        """Returns names that repeat a written tensor, for containers that share bytes at no cost."""
        view = self.view
        written = {
            name: header
            for step in steps
            for name, header in zip(step.outputs, step.targets, strict=True)
        }
        if self.target.format.container == "pytorch":
            aliases = (self._alias(name, to, written) for name, to in view.shared.items())
            return [alias for alias in aliases if alias is not None]
        if self.target.format.container == "keras_hdf5":
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

    def _notes(self) -> list[str]:
        return [
            *self.ledger.losses,
            *self.checkpoint.oddities,
            *notes_on_match(self.source, self.view),
            *self.zero_filled,
            *notes_on_classes(self.source, self.target.layout, self.view),
            *notes_on_groups(self.view, self.target.format.container),
        ]


def _names(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the names, each once."""
    return tuple(dict.fromkeys(names))
