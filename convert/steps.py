"""What a plan is made of: steps, shards, checks and the account of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from equipoise.convert.checkpoint import Checkpoint
from equipoise.convert.layouts import Format, View
from equipoise.convert.ops import Op, Shape
from equipoise.convert.rule import Rule
from equipoise.convert.tensor import TensorHeader

DTYPE_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What ``--dtype`` takes."""


SOURCE, TARGET = "source:", "target:"
"""Put before names in the rules of a step: two layouts may use one name for different things."""


class Status(StrEnum):
    """What became of a tensor."""

    MAPPED = "mapped"
    TIED = "tied"
    COMPUTED = "computed"
    LEFT_OUT = "left out"
    ALLOWED = "allowed"


@dataclass(frozen=True)
class Entry:
    """One line of the coverage.

    Attributes:
        side: ``source`` or ``target``.
        name: The tensor, as the file of that side spells it.
        status: What became of it.
        other: The tensors of the other side that it goes to or comes from.
        reason: Why, where it is not simply mapped.
    """

    side: str
    name: str
    status: Status
    other: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Check:
    """Something that the tensors' values must satisfy before anything is written.

    Attributes:
        name: The tensor of the source that will not be written.
        other: The tensor of the source that it must equal, or None.
        generator: The generator whose values it must have, or None.
        shape: The shape of those values.
        reason: Why the target has no place for a tensor of its own here.
        ops: The way from the tensor to PyTorch's form, in which the two are compared.
        other_ops: The same of the other tensor.
    """

    name: str
    other: str | None
    generator: str | None
    shape: Shape
    reason: str
    ops: tuple[Op, ...] = ()
    other_ops: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Step:
    """Sources become targets; one step reads and writes everything it needs once.

    Attributes:
        sources: Names of the source checkpoint, as the files spell them.
        rules: From names of the source layout (after :data:`SOURCE`) to names of the target layout (after
            :data:`TARGET`); applied in order.
        inputs: Names of the source layout, parallel to ``sources``.
        outputs: Names of the target layout, parallel to ``targets``.
        targets: Headers of what is written.
        generator: Generator of the one target when there are no sources.
    """

    sources: tuple[str, ...]
    rules: tuple[Rule, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    targets: tuple[TensorHeader, ...]
    generator: str | None = None


@dataclass(frozen=True)
class Shard:
    """One file of the target.

    Attributes:
        filename: e.g. ``model-00001-of-00002.safetensors``.
        steps: What goes into it, in its order.
        aliases: Names in it that repeat another.
        variant: Which kind of its container.
    """

    filename: str
    steps: tuple[Step, ...]
    aliases: tuple[TensorHeader, ...]
    variant: str = ""

    @property
    def headers(self) -> tuple[TensorHeader, ...]:
        """Everything in the file, aliases last."""
        return (*(header for step in self.steps for header in step.targets), *self.aliases)


@dataclass(frozen=True)
class Plan:
    """Everything that a conversion will do.

    Attributes:
        checkpoint: The source.
        route: The layouts it passes through.
        target: The format it writes.
        architecture: Model type and class, or None when nothing had to be known.
        shards: The files, in order.
        checks: What must hold before writing.
        coverage: The account of every tensor.
        dtype: What floating tensors are cast to, or None.
        notes: Remarks for a person.
        options: What the plan was asked for beside the format, so that it can be made again.
    """

    checkpoint: Checkpoint
    route: tuple[str, ...]
    target: Format
    architecture: tuple[str, str] | None
    shards: tuple[Shard, ...]
    checks: tuple[Check, ...]
    coverage: tuple[Entry, ...]
    dtype: str | None = None
    view: View | None = None
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order of the files."""
        return tuple(step for shard in self.shards for step in shard.steps)

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that will be written."""
        return sum(header.nbytes for step in self.steps for header in step.targets)
