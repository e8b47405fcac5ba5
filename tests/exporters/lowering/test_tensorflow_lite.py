"""Operators as TensorFlow Lite can run them give what PyTorch gives."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

import numpy as np

from equipoise.exporters.lowering.registry import registered_functions
from equipoise.exporters.lowering.tensorflow_lite import for_tensorflow_lite, is_dense

OPERATORS = registered_functions()
X = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
INDEX = np.random.default_rng(1).integers(0, 4, (3, 6, 2))
SOURCE = np.random.default_rng(2).standard_normal((3, 6, 2)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_it_is_that_of_pytorch(dim: int, reduce: str, include: bool, dtype: type) -> None:
    """The index is smaller than the targets along the other axes."""
    x, source = (X * 9).astype(dtype), (SOURCE * 9).astype(dtype)
    sides = [torch.from_numpy(one) for one in (x, INDEX, source)]
    wanted = sides[0].scatter_reduce(dim, *sides[1:], reduce, include_self=include)
    with jax.enable_x64(True), for_tensorflow_lite():
        assert is_dense("add")
        targets = jax.numpy.asarray(x)

        def compute(one: object) -> object:
            return OPERATORS["aten.scatter_reduce.two"](
                one, dim, INDEX, source, reduce, include_self=include
            )

        found = compute(targets)
        operators = {one.primitive.name for one in jax.make_jaxpr(compute)(targets).jaxpr.eqns}
    assert found.dtype == x.dtype  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.asarray(found), wanted.numpy(), rtol=1e-5, atol=1e-5)
    assert not {one for one in operators if one.startswith(("scatter-", "scatter_"))}
    assert not is_dense("add")


def test_booleans_and_vectors() -> None:
    x = np.array([True, False, False])
    index = jax.numpy.asarray([1, 1, 0])
    with jax.enable_x64(True), for_tensorflow_lite():
        found = OPERATORS["aten.scatter_add"](
            jax.numpy.asarray(x), 0, index, np.array([False, True, False])
        )
        assert found.tolist() == [True, True, False]
        added = OPERATORS["aten.scatter_add"](
            jax.numpy.arange(3.0), 0, index, np.array([1.0, 2.0, 4.0])
        )
        assert added.tolist() == [4.0, 4.0, 2.0]
        assert OPERATORS["aten.scatter"](
            jax.numpy.arange(3.0), 0, index[:1], np.array([9.0])
        ).tolist() == [0, 9, 2]


@pytest.mark.parametrize("rounding", ["floor", "trunc"])
def test_integers_are_divided_as_narrow_ones(rounding: str) -> None:
    x, other = np.array([-7, 7, 9, 0]), np.array([2, -2, 3, 5])
    wanted = torch.div(torch.from_numpy(x), torch.from_numpy(other), rounding_mode=rounding)
    with jax.enable_x64(True), for_tensorflow_lite():
        sides = [jax.numpy.asarray(one) for one in (x, other)]
        divide = partial(OPERATORS["aten.div"], rounding_mode=rounding)
        assert divide(*sides).tolist() == wanted.tolist()
        assert divide(*sides).dtype == np.int64
        (quotient,) = (
            one
            for one in jax.make_jaxpr(divide)(*sides).jaxpr.eqns
            if one.primitive.name in ("div", "jit", "pjit")
        )
        assert {str(one.aval.dtype) for one in quotient.invars} == {"int32"}
