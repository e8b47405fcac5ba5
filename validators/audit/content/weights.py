"""Weights of a program as the readers of its format find them: lazy arrays with a name, and what the program says of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.tensor import TensorRef
from equipoise.validators.audit.content.report import AuditedWeight, UnaccountedWeight


@dataclass(frozen=True)
class Quantization:
    """How integers of a weight stand for numbers: ``(integer - zero_point) * scale``.

    Attributes:
        scale: One scale, or one for each index of ``axis``; None if the program does not say.
        zero_point: One zero point, or one for each index of ``axis``.
        axis: The axis of the scales.
    """

    scale: Array | None = None
    zero_point: Array | None = None
    axis: int = 0

    def dequantize(self, integers: Array) -> Array:
        """Returns the numbers that integers stand for, as float32."""
        values = integers.astype(np.float32)
        if self.zero_point is not None:
            values = values - self._along_axis(self.zero_point, integers).astype(np.float32)
        return values if self.scale is None else values * self.steps(integers)

    def steps(self, integers: Array) -> Array:
        """Returns the scale of every element, in a shape that broadcasts with the integers."""
        return self._along_axis(np.asarray(self.scale, np.float32), integers)

    def _along_axis(self, values: Array, integers: Array) -> Array:
        if values.size <= 1:
            return values.reshape(())
        shape = [1] * integers.ndim
        shape[self.axis] = values.size
        return values.reshape(shape)


class WeightRole(Enum):
    """What a weight is in a program: it decides what an unexplained one means.

    A parameter must be a tensor of the source or be computed. A constant may be either or belong to the code. A literal belongs to
    the code.
    """

    PARAMETER = "parameter"
    CONSTANT = "constant"
    LITERAL = "literal"


@dataclass(frozen=True)
class ProgramWeight:
    """A weight or constant of a program.

    Attributes:
        ref: Its name, dtype and shape; reads it.
        module: Path of the module that reads it, if the program says so; empty if not.
        bias: Name of the weight that is added to its product; empty if that is not known.
        quantization: How integers stand for numbers, if they do.
        role: What it is in the program, as far as that is known.
    """

    ref: TensorRef
    module: str = ""
    bias: str = ""
    quantization: Quantization | None = None
    role: WeightRole = WeightRole.CONSTANT

    @property
    def name(self) -> str:
        """Its name in the program."""
        return self.ref.name

    def unaccounted(self, problem: str, nearest: str = "") -> UnaccountedWeight:
        """Returns it as a finding."""
        return UnaccountedWeight(self.name, self.ref.dtype.name, self.ref.shape, problem, nearest)

    def audited(self, sources: tuple[str, ...], how: str) -> AuditedWeight:
        """Returns it as a weight that is accounted for."""
        return AuditedWeight(self.name, self.ref.dtype.name, self.ref.shape, sources, how)

    @property
    def key(self) -> Hashable:
        """Equal for weights that share their bytes."""
        extent = self.ref.extent
        if extent is not None:
            return (extent, self.ref.dtype.name, self.ref.shape)
        return self.ref.identity or (str(self.ref.file), self.ref.name)


def parameters(refs: Iterable[TensorRef]) -> tuple[ProgramWeight, ...]:
    """Returns tensors as parameters of a program."""
    return tuple(ProgramWeight(ref, role=WeightRole.PARAMETER) for ref in refs)


@dataclass(frozen=True)
class ProgramContent:
    """All weights and constants of a program.

    Attributes:
        weights: The weights and constants.
        opaque: Files that hold further constants in a form that is not read as tensors; whether the bytes of a tensor occur in them
            can be asked.
    """

    weights: tuple[ProgramWeight, ...]
    opaque: tuple[Path, ...] = ()
