"""Tensors and symbolic sizes for samples."""

from __future__ import annotations

from typing import Any

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


OPEN = {11: "n", 7: "m", 9: "n-2", 5: "(n-1)//2"}
"""Symbolic sizes of samples: the lengths of their axes, and the expression of each."""


class Size(int):
    """An argument that depends on a size.

    Attributes:
        text: The expression of the symbolic sizes, e.g. ``2*n``.
    """

    text: str

    @classmethod
    def of(cls, text: str) -> Size:
        found = cls(eval(text, {}, {"n": 11, "m": 7}))
        found.text = text
        return found


def call(operator: str, *args: Any, **kwargs: Any) -> Call:
    """Returns a call of ``aten.<operator>``."""
    return f"aten.{operator}", args, kwargs


class Tensors:
    """Makes tensors with different values that are the same in every run."""

    def __init__(self, seed: int) -> None:
        import torch

        self.torch = torch
        self._generator = torch.Generator().manual_seed(seed)

    def f(self, *size: int) -> Any:
        """Returns normally distributed float32."""
        return self.torch.randn(size, generator=self._generator)

    def i(self, *size: int, low: int = -5, high: int = 6) -> Any:
        """Returns int64 below ``high``."""
        return self.torch.randint(low, high, size, generator=self._generator)

    def b(self, *size: int) -> Any:
        """Returns booleans."""
        return self.i(*size, low=0, high=2).bool()

    def h(self, *size: int) -> Any:
        """Returns normally distributed bfloat16."""
        return self.f(*size).bfloat16()

    def c(self, *size: int) -> Any:
        """Returns complex numbers."""
        return self.torch.complex(self.f(*size), self.f(*size))

    def of(self, values: Any, dtype: Any = None) -> Any:
        """Returns a tensor of the given values."""
        return self.torch.tensor(values, dtype=dtype)

    @property
    def odd(self) -> Any:
        """Returns special values: zeros, infinities, NaN and points where functions are not smooth."""
        inf, nan = float("inf"), float("nan")
        return self.of(
            [
                *(0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3),
                *(6, -7.25, 25, 0.1, 1e-6, 90, inf, -inf, nan, 0.75),
            ]
        )

    def all_pairs(self, values: Any, others: Any = None) -> tuple[Any, Any]:
        """Returns a column and a row that broadcast to all pairs of values."""
        return values[:, None], (values if others is None else others)[None]
