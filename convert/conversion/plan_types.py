"""The parts of a plan: what is written, steps and shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.conversion.coverage import CoverageEntry, ValueCheck
from equipoise.convert.core.arrays import DType, Shape
from equipoise.convert.core.rules import StepRule
from equipoise.convert.core.tensor import TensorHeader, dtype_named, is_floating
from equipoise.convert.layouts import layout_module
from equipoise.convert.layouts.base import Format, LayoutView

CAST_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Values of ``--dtype`` -> dtype."""


@dataclass(frozen=True, slots=True)
class Step:
    """Computes target tensors from source tensors; each tensor belongs to one step.

    Attributes:
        sources: Names in the files of the source.
        rules: From names of the source layout to names of the target layout; applied in order.
        inputs: Names of the source layout, parallel to ``sources``.
        outputs: Names of the target layout, parallel to ``targets``.
        targets: Headers of the written tensors.
        generator: Generator of the only target, if there are no sources.
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
        steps: The steps that write it, in order.
        aliases: Headers that share the bytes of another.
        variant: Variant of the container.
    """

    filename: str
    steps: tuple[Step, ...]
    aliases: tuple[TensorHeader, ...]
    variant: str = ""

    @property
    def headers(self) -> tuple[TensorHeader, ...]:
        """All headers of the file, aliases last."""
        return (*(header for step in self.steps for header in step.targets), *self.aliases)


@dataclass(frozen=True)
class Plan:
    """Everything that a conversion will do.

    Attributes:
        checkpoint: The source.
        route: The layouts on the way from source to target.
        target: The format it writes.
        architecture: Model type and class, or None if the conversion does not need them.
        shards: The files, in order.
        checks: Conditions on values, checked before writing.
        coverage: What becomes of every tensor.
        dtype: Dtype that floating-point tensors are cast to, or None.
        notes: Remarks for the user.
        options: The options of the plan, so that `verify` can make it again.
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
        """All steps in the order of the files."""
        return tuple(step for shard in self.shards for step in shard.steps)

    @property
    def nbytes(self) -> int:
        """Total bytes of the written tensors."""
        return sum(header.nbytes for step in self.steps for header in step.targets)


@dataclass(frozen=True)
class PlanTarget:
    """What is written: layout, format, the class in that layout if it is needed, dtype and shard size."""

    layout: str
    format: Format
    view: LayoutView | None
    dtype: str | None
    max_shard_size: int

    def cast(self, dtype: DType) -> DType:
        """Returns the target's dtype for a source dtype; only floating-point tensors are cast."""
        cast = self.dtype is not None and is_floating(dtype)
        return dtype_named(CAST_DTYPES[str(self.dtype)]) if cast else dtype

    def header(self, name: str, shape: Shape, dtype: DType) -> TensorHeader:
        """Returns the header for a name of the layout."""
        if self.view is None and self.layout == "tensorflow":
            return TensorHeader(f"{name}:0", dtype, shape, name.partition("/")[0])
        variant = "keras" if self.format.container == "keras_hdf5" else ""
        encode = layout_module(self.layout).encode
        group = self.view.groups.get(name, "") if self.view else ""
        stored_name = encode(name, self.format.container, variant, self.view)
        return TensorHeader(stored_name, dtype, shape, group)
