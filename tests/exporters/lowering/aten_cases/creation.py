"""Samples of operators that create tensors: steps of either sign, fractions, every dtype."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Size, Tensors, call


def cases(t: Tensors) -> Iterator[Call]:
    torch = t.torch
    for value in (2, 2.5, True, 1 + 2j):
        yield call("full.default", [2, 3], value)
        yield call("scalar_tensor.default", value, dtype=torch.complex64)
    yield call("full.default", [], 2)
    yield call("full.default", [2], 2.7, dtype=torch.int64)
    yield call("full.default", [2], 1, dtype=torch.bool)
    yield call("full.default", [2], float("-inf"), dtype=torch.bfloat16)
    yield call("full_like.default", t.i(2, 3), 2.7)
    yield call("full_like.default", t.f(2, 3), 2, dtype=torch.int64)
    yield call("scalar_tensor.default", 2)
    yield call("scalar_tensor.default", 2.5, dtype=torch.float64)
    yield call("scalar_tensor.default", 2, dtype=torch.int64)
    yield call("empty.memory_format", [2, 3])
    yield call("empty.memory_format", [2, 3], dtype=torch.int64)
    yield call("empty_strided.default", [2, 3], [3, 1])
    yield call("empty_strided.default", [2, 3], [1, 2], dtype=torch.bool)
    yield call("empty_permuted.default", [2, 3], [1, 0])
    yield call("empty_permuted.default", [2, 3], [1, 0], dtype=torch.float16)
    integer_bounds = ((0, 5), (0, 5, 2), (5, 0, -2), (-3, 4, 3), (2, 2), (0, 6, 3), (7, 0, -7))
    for bounds in integer_bounds:
        yield call("arange.start_step", *bounds)
    yield call("arange.start_step", 0, 5, 2, dtype=torch.float32)
    yield call("arange.start_step", 0, 5, dtype=torch.bfloat16)
    yield call("arange.start_step", 0, 5, dtype=torch.int32)
    fractions = ((0.0, 1.0, 0.1), (0, 2.5), (1.0, -1.0, -0.3), (0.5, 3), (0, 1, 0.25), (1.0, 1.0))
    for bounds in fractions:
        yield call("arange.start_step", *bounds)
    yield call("arange.start_step", 0.0, 5.0, 1.5, dtype=torch.int64)
    yield call("arange.start_step", 0.0, 5.5, 1.5, dtype=torch.float64)


def open_cases(t: Tensors) -> Iterator[Call]:
    torch = t.torch
    yield call("full.default", [2, Size.of("n")], 2.5)
    yield call("full.default", [Size.of("n")], Size.of("m"))
    yield call("full_like.default", t.f(2, 11), 3)
    yield call("empty.memory_format", [Size.of("n"), 3])
    yield call("scalar_tensor.default", Size.of("n"), dtype=torch.int64)
    bounds = ((0, "n", 1), (0, "n", 2), (2, "n", 3), ("n", 0, -3), ("-n", "m", 1), ("m", "2*n", 4))
    for ends in bounds:
        yield call(
            "arange.start_step", *(Size.of(one) if isinstance(one, str) else one for one in ends)
        )
    yield call("arange.start_step", 0, Size.of("n"), dtype=torch.float32)
