"""Dtypes as PyTorch has them: their names in JAX, and what comes of two of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.exporters.lowering.dims import is_symbolic

_NUMPY_KINDS = "bui", "fV", "c"
"""Kinds of numpy's dtypes; ``V`` are bfloat16 and the floats of eight bits."""


def to_jax_dtype(torch_dtype: Any) -> Any:
    """JAX's dtype for one of PyTorch's.

    >>> import torch
    >>> dtype_of(torch.int64), dtype_of(torch.bfloat16)
    (dtype('int64'), dtype(bfloat16))
    """
    from jax import numpy as jnp

    name = str(torch_dtype).removeprefix("torch.")
    return jnp.dtype({"half": "float16", "long": "int64"}.get(name, name))


def category(dtype: Any) -> int:
    """0 truth values, 1 integers, 2 floats, 3 complex numbers: the higher one decides."""
    if dtype == bool:
        return 0
    return 1 + next(
        rank for rank, kinds in enumerate(_NUMPY_KINDS) if np.dtype(dtype).kind in kinds
    )


def scalar_dtype(value: Any) -> Any:
    """What a plain number counts as: PyTorch's default dtype of its category."""
    if isinstance(value, bool):
        return np.dtype(bool)
    if isinstance(value, complex):
        return np.dtype(np.complex64)
    return np.dtype(np.float32 if isinstance(value, float) else np.int64)


def result_dtype(*values: Any) -> Any:
    """The dtype of an elementwise result, by PyTorch's rules.

    Tensors with axes decide; tensors without, then plain numbers, count only where their category is higher.
    """
    from jax import numpy as jnp

    ranks: list[Any] = [None, None, None]
    for value in values:
        if value is None:
            continue
        plain = isinstance(value, (bool, int, float, complex)) or is_symbolic(value)
        rank = 2 if plain else 0 if value.ndim else 1
        own = scalar_dtype(value) if plain else value.dtype
        ranks[rank] = own if ranks[rank] is None else jnp.promote_types(ranks[rank], own)
    result = None
    for own in ranks:
        if own is not None and (result is None or category(own) > category(result)):
            result = own if result is None else _promote_category(result, own)
    return jnp.dtype(result)


def _promote_category(result: Any, own: Any) -> Any:
    """The higher category decides; complex numbers are of the size of the floats before them."""
    if category(result) < 2:
        return own
    return np.dtype(np.complex128 if result.itemsize == 8 else np.complex64)


def float_dtype(dtype: Any) -> Any:
    """The dtype of a function that gives fractions: integers become PyTorch's default float."""
    return np.dtype(np.float32) if category(dtype) < 2 else dtype


def accumulation_dtype(dtype: Any) -> Any:
    """The dtype in which PyTorch sums: float32 for the halves."""
    return np.dtype(np.float32) if category(dtype) == 2 and dtype.itemsize < 4 else dtype


def promote(*values: Any, dtype: Any = None) -> list[Any]:
    """The values as arrays of their common dtype."""
    from jax import numpy as jnp

    wanted = result_dtype(*values) if dtype is None else dtype
    return [jnp.asarray(value, wanted) for value in values]
