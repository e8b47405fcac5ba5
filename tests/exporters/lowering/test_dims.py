"""Arithmetic of sizes, with integers and with symbolic dimensions."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.exporters.lowering import dims, python_ops

pytestmark = pytest.mark.transformers


def symbol() -> Any:
    from jax import export

    return export.symbolic_shape("n", constraints=["n >= 2", "n <= 100"])[0]


@pytest.mark.parametrize(
    ("index", "position"),
    [(None, 5), (2**63 - 1, 5), (2**62, 5), (3, 3), (9, 5), (-2, 3), (-9, 0), (0, 0), (5, 5)],
)
def test_a_bound_is_clamped_to_the_size(index: int | None, position: int) -> None:
    assert dims.clamp_bound(index, 5) == position


def test_bounds_of_a_symbolic_size() -> None:
    n = symbol()
    assert dims.clamp_bound(None, n) is n
    assert str(dims.clamp_bound(-2, n)) == "n - 2"
    assert dims.clamp_bound(1, n) == 1
    assert dims.is_symbolic(n)
    assert not dims.is_symbolic(3)
    assert dims.max_dim(n, 1) is n or dims.max_dim(n, 1) == n
    assert dims.min_dim(n, 1) == 1


def test_multiples_are_recognized() -> None:
    n = symbol()
    assert str(dims.floordiv(n - 7, 5)) == "floordiv(n - 7, 5)"
    assert str(dims.floordiv(n + 7, 5)) == "floordiv(n + 2, 5) + 1"
    assert (dims.floordiv(17, 5), dims.floordiv(-17, 5), dims.mod(-17, 5)) == (3, -4, 3)
    assert dims.mod(4 * n + 3, 4) == 3
    padded = n + dims.mod(8 - dims.mod(n, 8), 8)
    assert padded // 8 * 8 == padded


def test_axes_are_counted_from_the_front() -> None:
    assert [dims.normalize_axis(axis, 3) for axis in (-1, -3, 0, 2)] == [2, 0, 0, 2]
    assert dims.normalize_axis(-1, 0) == 0
    assert dims.normalize_axes([-1, 0], 3) == (2, 0)
    assert dims.normalize_axes(-2, 3) == (1,)
    assert dims.normalize_axes([], 2) == (0, 1)
    assert dims.normalize_axes(None, 3) == (0, 1, 2)
    assert dims.normalize_axes([0], 0) == ()


def test_python_functions_of_integers() -> None:
    import math
    import operator

    import torch

    def call(function: Any, *values: Any) -> Any:
        found = python_ops.lookup_python(function)
        assert found is not None, function
        return found(*values)

    assert call(operator.truediv, 7, 2) == 3.5
    assert call(torch.sym_max, 3, 5) == 5
    assert call(torch.sym_min, 3, 5) == 3
    assert call(torch.sym_float, 3) == 3.0
    assert isinstance(call(torch.sym_float, 3), float)
    assert call(torch.sym_int, -2.5) == -2
    assert (call(torch.sym_not, True), call(torch.sym_not, False)) == (False, True)
    assert (call(torch.sym_ite, True, 1, 2), call(torch.sym_ite, False, 1, 2)) == (1, 2)
    assert call(torch.sym_sum, [1, 2, 3]) == 6
    assert call(torch._sym_sqrt, 9) == 3.0
    assert [call(one, -2.5) for one in (math.ceil, math.floor, math.trunc)] == [-2, -3, -2]
    assert call(round, 2.6) == 3
    assert call(operator.mod, -7, 3) == 2
    assert python_ops.lookup_python(print) is None


def test_python_functions_of_symbolic_sizes() -> None:
    import math
    import operator

    import jax
    import numpy as np
    import torch
    from jax import export

    def program(x: Any) -> Any:
        n = x.shape[0]
        half = python_ops.lookup_python(operator.truediv)(n, 2)  # type: ignore[misc]
        found = [
            python_ops.lookup_python(one)(half)
            for one in (math.ceil, math.floor, math.trunc, round)
        ]  # type: ignore[misc]
        root = python_ops.lookup_python(torch._sym_sqrt)(n)  # type: ignore[misc]
        chosen = python_ops.lookup_python(torch.sym_ite)(half > 3, 1, 2)  # type: ignore[misc]
        return [*found, root, chosen, python_ops.lookup_python(torch.sym_not)(half > 3)]  # type: ignore[misc]

    with jax.enable_x64(True):
        spec = jax.ShapeDtypeStruct((symbol(),), np.float32)
        call = export.export(jax.jit(program))(spec).call
        found = [one.item() for one in call(np.zeros(9, np.float32))]
        assert found == [5, 4, 4, 4, 3.0, 1, False]


def test_sizes_of_a_tensor() -> None:
    import numpy as np

    x = np.zeros((2, 3, 4))
    assert python_ops.SHAPE_OPS["aten.sym_size.int"](x, -1) == 4
    assert python_ops.SHAPE_OPS["aten.sym_numel.default"](x) == 24
    assert [python_ops.SHAPE_OPS["aten.sym_stride.int"](x, dim) for dim in (0, 1, -1)] == [
        12,
        4,
        1,
    ]
    assert python_ops.SHAPE_OPS["aten.sym_storage_offset.default"](x) == 0
