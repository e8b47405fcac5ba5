"""The arithmetic of LoRA (arXiv:2106.09685) and DoRA (arXiv:2402.09353): weights that are merged where they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import BLOCK_ELEMENTS, ComputedRef
from equipoise.convert.core.tensor import TensorRef


@dataclass(frozen=True)
class LoraUpdate:
    """The update of one weight: ``weight + scaling * up @ down``, with DoRA's magnitudes if there are any.

    Attributes:
        down: ``lora_A``, shape ``[rank, inputs, ...]``; of an embedding ``[rank, entries]``.
        up: ``lora_B``, shape ``[outputs, rank, ...]``; of an embedding ``[width, rank]``.
        scaling: The factor of the update.
        transposed: Whether the weight is stored ``[inputs, outputs]``, as that of an embedding and of GPT-2's layers is.
        magnitude: DoRA's norm of the weight for each output, or None.
    """

    down: TensorRef
    up: TensorRef
    scaling: float
    transposed: bool
    magnitude: TensorRef | None = None

    def shape(self) -> tuple[int, ...]:
        """Returns the shape of the weight that the update belongs to."""
        outputs, inputs = self.up.shape[0], self.down.shape[1]
        return (inputs, outputs) if self.transposed else (outputs, inputs, *self.down.shape[2:])


class _Merge:
    """Computes rows of a merged weight; factors are ``left [rows, rank] @ right [rank, columns]``."""

    def __init__(self, weight: Array, update: LoraUpdate) -> None:
        down = update.down.read().astype(np.float64)
        up = update.up.read().astype(np.float64)
        down, up = down.reshape(down.shape[0], -1), up.reshape(up.shape[0], -1)
        self._left, self._right = (down.T, up.T) if update.transposed else (up, down)
        self._weight = weight.reshape(weight.shape[0], -1)
        self._shape = weight.shape
        self._update = update
        self._factor: Array | None = None
        if update.magnitude is not None:
            magnitude = update.magnitude.read().astype(np.float64).reshape(-1)
            self._factor = magnitude / self._norms(len(magnitude))

    def rows(self, start: int, stop: int) -> Array:
        """Returns some rows of the merged weight in float64."""
        merged = self._sum(start, stop)
        if self._factor is not None:
            by_row = not self._update.transposed
            merged *= self._factor[start:stop, None] if by_row else self._factor
        return merged.reshape(-1, *self._shape[1:])

    def _sum(self, start: int, stop: int) -> Array:
        delta: Array = self._left[start:stop] @ self._right
        return self._weight[start:stop].astype(np.float64) + self._update.scaling * delta

    def _norms(self, outputs: int) -> Array:
        """Returns the norm of the updated weight for each output."""
        squares = np.zeros(outputs)
        rows = len(self._weight)
        step = max(1, BLOCK_ELEMENTS // max(1, self._weight.shape[1]))
        for start in range(0, rows, step):
            block = self._sum(start, start + step) ** 2
            if self._update.transposed:
                squares += block.sum(0)
            else:
                squares[start : start + step] = block.sum(1)
        return np.sqrt(squares)


def merged_ref(base: TensorRef, update: LoraUpdate) -> ComputedRef:
    """Returns the reference of a merged weight.

    Raises:
        CheckpointError: The update does not fit the weight.
    """
    rank = update.down.shape[0] if update.down.shape else 0
    fits = (
        min(len(update.down.shape), len(update.up.shape)) >= 2
        and update.up.shape[1] == rank
        and set(update.up.shape[2:]) <= {1}
        and update.shape() == base.shape
    )
    magnitude = update.magnitude
    outputs = base.shape[1 if update.transposed else 0] if len(base.shape) > 1 else 0
    if not fits or (magnitude is not None and magnitude.size != outputs):
        parts = (update.down, update.up, *([magnitude] if magnitude is not None else []))
        raise CheckpointError(
            "the adapter does not fit the weight",
            file=update.down.file,
            tensor=base.name,
            expected=f"an update of {list(base.shape)}",
            found=", ".join(f"{ref.name} {list(ref.shape)}" for ref in parts),
            hint="it belongs to another base model",
        )
    return ComputedRef(
        base.name,
        base.dtype,
        base.shape,
        base.file,
        open_rows=lambda: _Merge(base.read(), update).rows,
    )
