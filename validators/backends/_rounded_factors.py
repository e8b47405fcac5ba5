"""A PyTorch mode that rounds the factors of matrix products and convolutions, as tensor cores and autocast do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from equipoise.convert.core.framework_types import TorchTensor

_FIRST_TWO = (
    *("linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
FACTORS = {
    **dict.fromkeys(_FIRST_TWO, (0, 1)),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm"), (1, 2)),
    **dict.fromkeys(("scaled_dot_product_attention",), (0, 1, 2)),
}
"""Names of PyTorch's functions -> positions of the arguments that are multiplied and added up."""

_DROPPED_BITS = 13
"""float32 keeps 23 bits of the fraction, TensorFloat-32 ten."""


def rounded_factors_mode(precision: str) -> AbstractContextManager[Any]:
    """Returns a context in which factors are rounded to ``bfloat16`` or ``tf32``; sums stay in float32."""
    import torch
    from torch.overrides import TorchFunctionMode

    def round_factor(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        return value.bfloat16().float() if precision == "bfloat16" else _round_to_tf32(value)

    class RoundedFactors(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            positions = FACTORS.get(getattr(function, "__name__", ""), ())
            rounded = [
                round_factor(value) if index in positions else value
                for index, value in enumerate(args)
            ]
            return function(*rounded, **(kwargs or {}))

    return RoundedFactors()


def _round_to_tf32(value: TorchTensor) -> TorchTensor:
    """Rounds a float32 tensor to the nearest number of ten fraction bits, ties to even; keeps infinity and NaN."""
    import torch

    bits = value.contiguous().view(torch.int32)
    half = (1 << (_DROPPED_BITS - 1)) - 1
    odd = (bits >> _DROPPED_BITS) & 1
    rounded = ((bits + half + odd) >> _DROPPED_BITS) << _DROPPED_BITS
    return torch.where(torch.isfinite(value), rounded.view(torch.float32), value)
