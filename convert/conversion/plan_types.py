"""What a plan is made of: steps, shards, checks and the account of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.conversion.coverage import CoverageEntry, ValueCheck
from equipoise.convert.core.rules import StepRule
from equipoise.convert.core.tensor import TensorHeader
from equipoise.convert.layouts.base import Format, LayoutView

CAST_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What ``--dtype`` takes."""


@dataclass(frozen=True)
class Step:
    """Sources become targets; one step reads and writes everything it needs once.

    Attributes:
        sources: Names of the source checkpoint, as the files spell them.
        rules: From names of the source layout to names of the target layout; applied in order.
        inputs: Names of the source layout, parallel to ``sources``.
        outputs: Names of the target layout, parallel to ``targets``.
        targets: Headers of what is written.
        generator: Generator of the one target when there are no sources.
    """

    sources: tuple[str, ...]
    rules: tuple[StepRule, ...]
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
    checks: tuple[ValueCheck, ...]
    coverage: tuple[CoverageEntry, ...]
    dtype: str | None = None
    view: LayoutView | None = None
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
