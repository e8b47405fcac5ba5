"""Rules: which names of one layout become which names of another, through which operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.convert.ops import Op, Shape, shapes_all, simplify


@dataclass(frozen=True)
class Rule:
    """Sources become targets through operations.

    Attributes:
        sources: Names in the source layout, in the order the first operation takes them.
        targets: Names in the target layout, in the order the last operation gives them.
        ops: The operations; none means the bytes stay as they are.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ops: tuple[Op, ...] = ()

    @property
    def inverse(self) -> Rule:
        """The rule that undoes it."""
        return Rule(self.targets, self.sources, tuple(op.inverse for op in reversed(self.ops)))

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Shapes of the targets for shapes of the sources.

        Raises:
            ValueError: The operations do not fit.
        """
        return shapes_all(self.ops, shapes)


def compose(first: Sequence[Rule], second: Sequence[Rule]) -> list[tuple[Rule, ...]]:
    """Fuses two sets of rules over the names between them.

    Rules that share names in the middle are joined. A chain of one rule after one rule over the same names
    becomes a single rule with simplified operations; anything wider stays a tuple of rules, to be applied in
    their order, and is still one step over one set of tensors.
    """
    producers = {name: rule for rule in first for name in rule.targets}
    steps: list[tuple[Rule, ...]] = []
    placed: dict[int, int] = {}
    for rule in second:
        before = list({id(producers[name]): producers[name] for name in rule.sources}.values())
        homes = sorted({placed[id(one)] for one in before if id(one) in placed})
        merged = [one for home in homes for one in steps[home]]
        fresh = [one for one in before if id(one) not in placed]
        index = len(steps)
        steps.append(_ordered([*merged, *fresh, rule]))
        for home in homes:
            steps[home] = ()
        for one in steps[index]:
            placed[id(one)] = index
    return [_fused(step) for step in steps if step]


def _ordered(rules: list[Rule]) -> tuple[Rule, ...]:
    """Rules with those first that need nothing from the others."""
    made = {name for rule in rules for name in rule.targets}
    return tuple(sorted(rules, key=lambda rule: any(name in made for name in rule.sources)))


def _fused(step: tuple[Rule, ...]) -> tuple[Rule, ...]:
    match step:
        case (first, second) if first.targets == second.sources:
            return (Rule(first.sources, second.targets, simplify((*first.ops, *second.ops))),)
        case _:
            return step
