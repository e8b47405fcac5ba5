"""One copy of a PyTorch model's weights for several sessions: at its own precision, in float64 arithmetic, and perturbed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from equipoise.convert.core.framework_types import TorchModel, TorchTensor


class SharedWeights:
    """A model whose settings are changed when a session asks for it, and restored for the next one.

    Args:
        model: The model.
        info: What loading its weights reported.
    """

    def __init__(self, model: TorchModel, info: dict[str, Any]) -> None:
        self.model = model
        self.info = info
        self._seed: int | None = None
        self._has_experts = bool(getattr(model, "_can_set_experts_implementation", lambda: False)())
        self._experts = model.config._experts_implementation if self._has_experts else None
        self._in_loop = False

    def use(self, seed: int | None = None, *, in_float64: bool = False) -> TorchModel:
        """Returns the model for one forward pass.

        Args:
            seed: A seed by which its weights are perturbed; None: as they were loaded.
            in_float64: Whether the pass is in float64, which PyTorch's grouped matrix product of experts does not support.
        """
        if seed != self._seed:
            if self._seed is not None:
                perturb_weights(self.model, self._seed, undo=True)
            if seed is not None:
                perturb_weights(self.model, seed)
            self._seed = seed
        if self._has_experts and in_float64 != self._in_loop:
            self.model.set_experts_implementation("eager" if in_float64 else self._experts)
            self._in_loop = in_float64
        return self.model


PART = 1 << 18
"""Number of weights that are perturbed at a time: they fit into the processor's cache."""

_LOADED: WeakValueDictionary[Hashable, SharedWeights] = WeakValueDictionary()
"""The weights that sessions of this process hold at the moment."""


def share_weights(key: Hashable, load: Callable[[], SharedWeights]) -> SharedWeights:
    """Returns the weights that another session holds under the same key, or loads them."""
    found = _LOADED.get(key)
    if found is None:
        found = load()
        _LOADED[key] = found
    return found


def perturb_weights(model: TorchModel, seed: int, *, undo: bool = False) -> None:
    """Moves every weight to the next larger or smaller number of its dtype, chosen at random; ``undo`` moves all back.

    The change of an output is then the model's own sensitivity to one rounding of each weight. Zeros stay, for they are
    exact in every precision: in a model with RMSNorm an embedding of zeros is an unstable point, which the smallest
    numbers beside it would leave. Numbers beyond half the largest stay too: next to it is infinity, from which there is
    no way back.
    """
    random = np.random.default_rng(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            values = parameter.data.contiguous()
            _move(values, random, undo=undo)
            if values.data_ptr() != parameter.data_ptr():
                parameter.data.copy_(values)


def _move(values: TorchTensor, random: np.random.Generator, *, undo: bool) -> None:
    """Moves the numbers of a contiguous tensor in place.

    Of the integer with the same bits, one more is the next number in magnitude, and one less the one before.
    """
    import torch

    integer, fraction_bits, infinity = {
        torch.float32: (torch.int32, 23, 0x7F800000),
        torch.float16: (torch.int16, 10, 0x7C00),
        torch.bfloat16: (torch.int16, 7, 0x7F80),
    }[values.dtype]
    bits = values.view(integer).numpy().reshape(-1)
    kind = bits.dtype.type
    magnitude, smallest = kind(np.iinfo(kind).max), 1 << fraction_bits
    for start in range(0, len(bits), PART):
        part = bits[start : start + PART]
        random_bytes = np.frombuffer(random.bytes(len(part) // 8 + 1), np.uint8)
        step = np.unpackbits(random_bytes)[: len(part)].view(np.int8) * np.int8(2) - np.int8(1)
        size = part & magnitude
        step *= (size >= kind(smallest)) & (size < kind(infinity - smallest))
        part += -step if undo else step
