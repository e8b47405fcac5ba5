"""One copy of a PyTorch model's weights for several sessions: at its own precision, in float64 arithmetic, and perturbed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

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
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        ends = torch.tensor([-torch.inf, torch.inf], dtype=parameter.dtype)
        up, down = (ends[0], ends[1]) if undo else (ends[1], ends[0])
        target = torch.where(_random_bits(parameter, generator), up, down).to(parameter.device)
        limits = torch.finfo(parameter.dtype)
        size = parameter.abs()
        moves = (size >= limits.tiny) & (size <= limits.max / 2)
        parameter.copy_(torch.where(moves, torch.nextafter(parameter, target), parameter))


def _random_bits(like: TorchTensor, generator: Any) -> TorchTensor:
    """Returns random booleans in the shape of a tensor, eight from each random byte."""
    import torch

    count = like.numel()
    random = torch.randint(0, 256, (count // 8 + 1, 1), dtype=torch.uint8, generator=generator)
    bits = (random >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.reshape(-1)[:count].reshape(like.shape).bool()
