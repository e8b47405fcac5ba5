"""Rules map names of one layout to names of another through operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.ops import Op, output_shapes, simplify


@dataclass(frozen=True, slots=True)
class Rule:
    """Computes target tensors from source tensors.

    Attributes:
        sources: Names in the source layout, in the order in which the first operation takes them.
        targets: Names in the target layout, in the order in which the last operation returns them.
        ops: The operations, applied in order; empty for a copy of the bytes.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ops: tuple[Op, ...] = ()

    @property
    def inverse(self) -> Rule:
        """The rule that undoes this one."""
        return Rule(self.targets, self.sources, tuple(op.inverse for op in reversed(self.ops)))

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the shapes of the targets for the shapes of the sources.

        Raises:
            ValueError: The operations do not fit.
        """
        return output_shapes(self.ops, shapes)


class Namespace(Enum):
    """Where the names of a rule belong; two layouts may use one name for different tensors."""

    SOURCE = "source"
    PARAMETER = "parameter"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class StepRule:
    """A rule of a step, with the namespaces of its source and target names."""

    rule: Rule
    reads: Namespace
    writes: Namespace


def compose(
    to_parameters: Sequence[Rule], to_targets: Sequence[Rule]
) -> list[tuple[StepRule, ...]]:
    """Composes rules source -> parameter with rules parameter -> target.

    Rules that share parameters end up in one step. A chain of one rule after one rule over the same parameters
    becomes a single rule with simplified operations; any other group stays a tuple of rules to be applied in order.

    Args:
        to_parameters: Rules from the source's names to PyTorch's parameters.
        to_targets: Rules from parameters to the target's names.
    """
    producers = {name: rule for rule in to_parameters for name in rule.targets}
    steps: list[tuple[list[Rule], list[Rule]]] = []
    step_of: dict[int, int] = {}
    for rule in to_targets:
        needed = {id(producers[name]): producers[name] for name in rule.sources}
        merged = sorted({step_of[key] for key in needed if key in step_of})
        first = [one for index in merged for one in steps[index][0]]
        first += [one for key, one in needed.items() if key not in step_of]
        second = [*(one for index in merged for one in steps[index][1]), rule]
        for index in merged:
            steps[index] = ([], [])
        step_of.update((id(one), len(steps)) for one in first)
        steps.append((first, second))
    return [_fuse(first, second) for first, second in steps if second]


def _fuse(first: list[Rule], second: list[Rule]) -> tuple[StepRule, ...]:
    """Returns the rules of one step, a chain of two as one."""
    if len(first) == len(second) == 1 and first[0].targets == second[0].sources:
        ops = simplify((*first[0].ops, *second[0].ops))
        fused = Rule(first[0].sources, second[0].targets, ops)
        return (StepRule(fused, Namespace.SOURCE, Namespace.TARGET),)
    return (
        *(StepRule(rule, Namespace.SOURCE, Namespace.PARAMETER) for rule in first),
        *(StepRule(rule, Namespace.PARAMETER, Namespace.TARGET) for rule in second),
    )
