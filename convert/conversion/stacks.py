"""Cuts the steps of stacked tensors: a layer of a stack, or an expert, is read without the others where the file allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from equipoise.convert.conversion.plan_types import Step
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.ops import (
    AddAxis,
    DropAxis,
    MergeAxes,
    Op,
    Permute,
    SplitAxis,
    Unstack,
)
from equipoise.convert.core.rules import Rule
from equipoise.convert.core.tensor import RangeReader, TensorRef

WHOLE_BYTES = 128 << 20
"""Stacks up to this size are read whole; of a larger one so much at a time."""
_MAX_READS = 8
"""How often a piece of the file may be read, where it holds more layers than are read at a time."""


@dataclass(frozen=True)
class StackPart:
    """Some tensors of a stack.

    Attributes:
        step: What computes their targets, as if the source held no others.
        reader: Reads the source.
        axis: The axis of the source that they are stacked along.
        start: The first of them.
        stop: The one after the last.
    """

    step: Step
    reader: RangeReader
    axis: int
    start: int
    stop: int

    def read(self) -> dict[str, Array]:
        """Returns the source of the step by its name.

        Raises:
            ContainerError: The file is not what its header said.
        """
        return {self.step.sources[0]: self.reader.read_range(self.axis, self.start, self.stop)}


def stacked_axis(ops: Sequence[Op]) -> int | None:
    """Returns the axis of the operand that the last operation unstacks; None if the ones before mix it with others.

    >>> stacked_axis([MergeAxes(2, (3, 5)), Permute((1, 2, 0)), Unstack(0, 4)])
    1
    """
    if not ops or not isinstance(ops[-1], Unstack):
        return None
    axis = ops[-1].axis
    for op in reversed(ops[:-1]):
        before = _axis_before(op, axis)
        if before is None:
            return None
        axis = before
    return axis


def _axis_before(op: Op, axis: int) -> int | None:
    """Returns where an axis was before an operation; None if it was no axis of its own."""
    match op:
        case Permute(axes):
            return axes[axis]
        case MergeAxes(first, sizes) if axis != first:
            return axis if axis < first else axis + len(sizes) - 1
        case SplitAxis(first, sizes) if not first <= axis < first + len(sizes):
            return axis if axis < first else axis - len(sizes) + 1
        case AddAxis(added) if axis != added:
            return axis if axis < added else axis - 1
        case DropAxis(dropped):
            return axis if axis < dropped else axis + 1
    return None


def cut_stack(
    step: Step, refs: Sequence[TensorRef], whole_bytes: int | None = None
) -> list[StackPart]:
    """Returns the parts in which a step is computed, in the order of its targets; none if its sources are read whole.

    Args:
        step: The step.
        refs: Its sources.
        whole_bytes: The largest stack that is read whole, and about how much of a larger one is read at once; None
            for :data:`WHOLE_BYTES`.
    """
    limit = WHOLE_BYTES if whole_bytes is None else whole_bytes
    first, *others = step.rules or (None,)
    if first is None or len(refs) != 1 or refs[0].nbytes <= limit:
        return []
    (ref,) = refs
    rule = first.rule
    axis, reader = stacked_axis(rule.ops), ref.range_reader
    if axis is None or reader is None or any(len(one.rule.sources) != 1 for one in others):
        return []
    count = ref.shape[axis]
    at_once = max(1, limit * count // ref.nbytes, -(-reader.piece_length(axis) // _MAX_READS))
    starts = range(0, count, at_once)
    parts = [
        StackPart(_part_of_step(step, rule, start, stop), reader, axis, start, stop)
        for start in starts
        if (stop := min(start + at_once, count))
    ]
    in_order = [header for part in parts for header in part.step.targets]
    return parts if tuple(in_order) == step.targets else []


def _part_of_step(step: Step, rule: Rule, start: int, stop: int) -> Step:
    """Returns a step for some tensors of a stack alone."""
    names = rule.targets[start:stop]
    last = rule.ops[-1]
    assert isinstance(last, Unstack)
    part = Rule(rule.sources, names, (*rule.ops[:-1], Unstack(last.axis, stop - start)))
    first, *others = step.rules
    kept = [one for one in others if one.rule.sources[0] in names]
    written = {name for one in kept for name in one.rule.targets} if others else {*names}
    chosen = [pair for pair in zip(step.outputs, step.targets, strict=True) if pair[0] in written]
    return replace(
        step,
        rules=(replace(first, rule=part), *kept),
        outputs=tuple(name for name, _ in chosen),
        targets=tuple(header for _, header in chosen),
    )
