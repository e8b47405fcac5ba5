"""Type promotion follows PyTorch for all pairs of dtypes: tensors with axes, scalar tensors and Python numbers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from equipoise.exporters.lowering import dtypes

pytestmark = pytest.mark.transformers

NAMES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)
NUMBERS = (True, 2, 2.5, 1 + 2j)


def operands() -> list[tuple[Any, Any]]:
    """Returns the operand in PyTorch and in JAX."""
    import numpy as np
    import torch

    found: list[tuple[Any, Any]] = [(number, number) for number in NUMBERS]
    for name, shape in itertools.product(NAMES, ((2,), ())):
        kind = getattr(torch, name)
        found.append((torch.zeros(shape, dtype=kind), np.zeros(shape, dtypes.to_jax_dtype(kind))))
    return found


def expected_dtype(*values: Any) -> str:
    """Returns PyTorch's dtype; complex32, which JAX lacks, becomes complex64."""
    import torch

    found = str(torch.result_type(*values)).removeprefix("torch.")
    return {"complex32": "complex64"}.get(found, found)


def test_a_result_has_the_dtype_of_pytorch() -> None:
    import jax

    with jax.enable_x64(True):
        for (first, ours), (second, other) in itertools.product(operands(), repeat=2):
            assert dtypes.result_dtype(ours, other).name == expected_dtype(first, second), (
                first,
                second,
            )


def test_promotion_of_three_values_is_associative() -> None:
    import jax
    import numpy as np

    with jax.enable_x64(True):
        half, integer = np.zeros(2, np.float16), np.zeros((), np.int64)
        assert dtypes.result_dtype(half, integer, 2.5) == np.float16
        assert dtypes.result_dtype(np.zeros(2, np.int32), integer, 2.5) == np.float32
        assert dtypes.result_dtype(np.zeros(2, np.int32), None, np.zeros((), np.float64)) == float


@pytest.mark.parametrize(
    ("name", "category", "floating", "wide"),
    [
        ("bool", 0, "float32", "bool"),
        ("uint8", 1, "float32", "uint8"),
        ("int64", 1, "float32", "int64"),
        ("float16", 2, "float16", "float32"),
        ("bfloat16", 2, "bfloat16", "float32"),
        ("float32", 2, "float32", "float32"),
        ("float64", 2, "float64", "float64"),
        ("complex64", 3, "complex64", "complex64"),
    ],
)
def test_category_of_a_dtype(name: str, category: int, floating: str, wide: str) -> None:
    import torch

    dtype = dtypes.to_jax_dtype(getattr(torch, name))
    assert dtypes.category(dtype) == category
    assert dtypes.float_dtype(dtype).name == floating
    assert dtypes.accumulation_dtype(dtype).name == wide


def test_short_names_of_dtypes() -> None:
    import torch

    assert dtypes.to_jax_dtype(torch.half).name == "float16"
    assert dtypes.to_jax_dtype(torch.long).name == "int64"


def test_promoted_values_have_one_dtype() -> None:
    import jax
    import numpy as np

    with jax.enable_x64(True):
        first, second = dtypes.promote(np.array([1, 2]), 2.5)
        assert (first.dtype, second.dtype) == (np.float32, np.float32)
        assert float(second) == 2.5
        assert [one.dtype for one in dtypes.promote(1, 2, dtype=np.int8)] == [np.int8] * 2
