"""Dtypes as PyTorch has them: their counterparts in JAX, and the dtype of a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.convert.core.framework_types import (
    JaxArray,
    JaxDtype,
    TorchDtype,
    TorchTensor,
)
from equipoise.exporters.lowering.dims import is_symbolic

_NUMPY_KINDS = "bui", "fV", "c"
"""Kinds of NumPy's dtypes: integers, floats, complex; bfloat16 and float8 have the kind ``V``."""

Operand = Any
"""A JAX array, a size, or a Python number."""


def to_jax_dtype(torch_dtype: TorchDtype) -> JaxDtype:
    """Returns JAX's dtype for one of PyTorch's.

    >>> import torch
    >>> to_jax_dtype(torch.int64), to_jax_dtype(torch.bfloat16)
    (dtype('int64'), dtype(bfloat16))
    """
    from jax import numpy as jnp

    name = str(torch_dtype).removeprefix("torch.")
    return jnp.dtype({"half": "float16", "long": "int64"}.get(name, name))


def to_jax_array(tensor: TorchTensor) -> JaxArray:
    """Returns a tensor as a concrete JAX array with the same bits, whose values are known while tracing."""
    import jax
    import torch
    from jax import numpy as jnp

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        values = tensor.view(torch.int16).numpy().view(to_jax_dtype(tensor.dtype))
    else:
        values = np.asarray(tensor.resolve_conj().resolve_neg())
    with jax.ensure_compile_time_eval():
        return jnp.asarray(values)


def category(dtype: JaxDtype) -> int:
    """Returns the rank of a dtype in type promotion: 0 boolean, 1 integer, 2 float, 3 complex."""
    if dtype == bool:
        return 0
    kind = np.dtype(dtype).kind
    return 1 + next(rank for rank, kinds in enumerate(_NUMPY_KINDS) if kind in kinds)


def scalar_dtype(value: bool | complex) -> JaxDtype:
    """Returns the dtype that PyTorch gives a Python number."""
    if isinstance(value, bool):
        return np.dtype(bool)
    if isinstance(value, complex):
        return np.dtype(np.complex64)
    return np.dtype(np.float32 if isinstance(value, float) else np.int64)


def result_dtype(*values: Operand) -> JaxDtype:
    """Returns the dtype of an elementwise result by PyTorch's rules.

    Tensors with axes decide; tensors without axes, then Python numbers, only count if their category is higher.
    """
    from jax import numpy as jnp

    ranks: list[JaxDtype] = [None, None, None]
    for value in values:
        if value is None:
            continue
        is_number = isinstance(value, (bool, int, float, complex)) or is_symbolic(value)
        rank = 2 if is_number else 0 if value.ndim else 1
        own = scalar_dtype(value) if is_number else value.dtype
        ranks[rank] = own if ranks[rank] is None else jnp.promote_types(ranks[rank], own)
    result = None
    for own in ranks:
        if own is not None and (result is None or category(own) > category(result)):
            result = own if result is None else _promote_category(result, own)
    return jnp.dtype(result)


def _promote_category(result: JaxDtype, own: JaxDtype) -> JaxDtype:
    """Returns the dtype of the higher category; a complex dtype is as wide as the float before it."""
    if category(result) < 2:
        return own
    return np.dtype(np.complex128 if result.itemsize == 8 else np.complex64)


def float_dtype(dtype: JaxDtype) -> JaxDtype:
    """Returns the dtype of a function with fractional results: integers become float32."""
    return np.dtype(np.float32) if category(dtype) < 2 else dtype


def accumulation_dtype(dtype: JaxDtype) -> JaxDtype:
    """Returns the dtype in which PyTorch accumulates sums: float32 for fp16 and bf16."""
    return np.dtype(np.float32) if category(dtype) == 2 and dtype.itemsize < 4 else dtype


def promote(*values: Operand, dtype: JaxDtype = None) -> list[JaxArray]:
    """Returns the values as arrays of their common dtype."""
    from jax import numpy as jnp

    wanted = result_dtype(*values) if dtype is None else dtype
    return [jnp.asarray(value, wanted) for value in values]
