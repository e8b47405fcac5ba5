"""Computing targets from sources: memory order, casts, blocks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.convert.conversion import transform
from equipoise.convert.conversion.plan_types import Step
from equipoise.convert.conversion.transform import (
    cast_array,
    target_arrays,
    target_streams,
    to_contiguous,
)
from equipoise.convert.core import tensor
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import InputError
from equipoise.convert.core.ops import Op, Permute
from equipoise.convert.core.rules import Namespace, Rule, StepRule
from equipoise.convert.core.tensor import DTYPES, TensorHeader

SHAPES = [(0, 4), (1, 1), (3, 5), (1, 4000), (4000, 1), (700, 900), (1500, 70)]


def values(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    count = int(np.prod(shape))
    return (np.arange(count) % 251).astype(DTYPES[dtype]).reshape(shape)


def step(header: TensorHeader, *ops: Op) -> Step:
    rule = StepRule(Rule(("a",), ("b",), ops), Namespace.SOURCE, Namespace.TARGET)
    return Step(("file.a",), (rule,), ("a",), ("b",), (header,))


def joined(plan_step: Step, arrays: Mapping[str, Array]) -> bytes:
    ((_, pieces),) = [
        (header, list(pieces)) for header, pieces in target_streams(plan_step, arrays)
    ]
    assert all(len(piece) <= tensor.BLOCK_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "complex128", "bool"])
@pytest.mark.parametrize("shape", SHAPES)
def test_contiguous(shape: tuple[int, int], dtype: str) -> None:
    array = values(shape, dtype)
    for view in (array, array.T, array[::-1], array[:, ::2].T, np.asfortranarray(array)):
        found = to_contiguous(view)
        assert found.flags.c_contiguous
        assert found.shape == view.shape
        assert found.tobytes() == view.tobytes()


def test_contiguous_keeps_rank_and_copies_no_more_than_it_must() -> None:
    assert to_contiguous(np.array(3.0)).shape == ()
    array = values((3, 4))
    assert to_contiguous(array) is array
    assert to_contiguous(values((2, 3, 4)).transpose(2, 0, 1)).flags.c_contiguous


@given(
    shape=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    axes=st.permutations(range(3)),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    block=st.integers(1, 200),
)
def test_pieces_are_the_whole(
    shape: tuple[int, ...], axes: list[int], dtype: str, block: int
) -> None:
    """For any block size, the blocks together are the bytes of the whole target."""
    array = values(shape)
    after = tuple(shape[axis] for axis in axes)
    plan_step = step(TensorHeader("b", DTYPES[dtype], after), Permute(tuple(axes)))
    ((_, target),) = target_arrays(plan_step, {"file.a": array})
    expected = array.transpose(axes).astype(DTYPES[dtype]).tobytes()
    assert target.tobytes() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transform, "BLOCK_BYTES", block)
        assert joined(plan_step, {"file.a": array}) == expected


@pytest.mark.parametrize("shape", [(), (0,), (7,), (600_000,), (900, 700)])
def test_streams(shape: tuple[int, ...]) -> None:
    array = values(shape)
    plan_step = step(TensorHeader("b", array.dtype, shape))
    assert joined(plan_step, {"file.a": array}) == array.tobytes()


def test_generated() -> None:
    header = TensorHeader("b", DTYPES["float16"], (3, 2))
    rule = StepRule(Rule(("a",), ("b",), (Permute((1, 0)),)), Namespace.PARAMETER, Namespace.TARGET)
    plan_step = Step((), (rule,), ("a",), ("b",), (header,), "zeros")
    assert joined(plan_step, {}) == bytes(12)


def test_cast() -> None:
    array = np.float32([1.0000001, -2, np.inf, np.nan, 65504])
    found = cast_array(array, TensorHeader("b", DTYPES["float16"], (5,)))
    assert found.tobytes() == array.astype(np.float16).tobytes()
    assert cast_array(array, TensorHeader("b", DTYPES["float32"], (5,))) is array
    header = TensorHeader("b", DTYPES["float16"], (2,))
    with pytest.raises(InputError, match="1 finite values overflow in float16"):
        cast_array(np.float32([1e6, np.inf]), header)
    with pytest.raises(InputError, match="bf16"):
        joined(step(header), {"file.a": np.float32([1e6, 0])})
