"""Samples of binary operators: broadcasting, mixed dtypes, signs and NaN."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call

INF, NAN = float("inf"), float("nan")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
EXTREMES = ("maximum", "minimum", "fmax", "fmin", "atan2", "copysign", "hypot")
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")


def cases(t: Tensors) -> Iterator[Call]:
    odd = t.all_pairs(t.odd)
    few = t.all_pairs(t.odd[:14], t.of([2.0, -3.0, 0.75]))
    integers = t.all_pairs(t.of([7, -7, 0, 5, -1]), t.of([2, -2, 3, -5]))
    for name in (*COMPARISONS, *EXTREMES, "mul", "add", "sub", "div", "fmod", "remainder"):
        overload = "default" if name in {*EXTREMES} - {"copysign"} else "Tensor"
        yield call(f"{name}.{overload}", *odd)
        yield call(f"{name}.{overload}", t.f(2, 3), t.h(3))
        yield call(f"{name}.{overload}", *(one.half() for one in few))
        if name not in ("fmax", "fmin", "atan2", "hypot", "copysign"):
            yield call(f"{name}.{overload}", *integers)
        if name != "hypot":
            yield call(f"{name}.{overload}", t.i(2, 3), t.of(1.5))
        if name in (*COMPARISONS, "fmod", "remainder"):
            yield call(f"{name}.Scalar", t.odd, -2.5)
            yield call(f"{name}.Scalar", t.i(4), 2)
            yield call(f"{name}.Scalar", t.h(4), 0.3)
    for name in BITS:
        yield call(f"{name}.Tensor", *t.all_pairs(t.of([7, -7, 0, 5]), t.of([2, 0, 3])))
        plain = "Tensor_Scalar" if "shift" in name else "Scalar"
        yield call(f"{name}.{plain}", t.i(4), 3)
        yield call(f"{name}.Scalar_Tensor", 6, t.i(4, low=0))
        if "shift" not in name:
            yield call(f"{name}.Tensor", *t.all_pairs(t.of([True, False])))
    for name in ("__lshift__", "__rshift__"):
        yield call(f"{name}.Scalar", t.of([7, -7, 0, 5]), 2)
        yield call(f"{name}.Tensor", *t.all_pairs(t.of([7, -7, 0, 5]), t.of([2, 0, 3])))
    for name in ("logical_and", "logical_or", "logical_xor"):
        yield call(f"{name}.default", *t.all_pairs(t.of([0.0, 2.0, float("nan")])))
        yield call(f"{name}.default", t.b(3), t.i(3))
    yield from _sums(t)
    yield from _quotients(t)
    yield from _powers(t)
    yield from _others(t)


def _sums(t: Tensors) -> Iterator[Call]:
    for name in ("add", "sub"):
        yield call(f"{name}.Tensor", t.f(3), t.f(3), alpha=2.5)
        yield call(f"{name}.Tensor", t.f(3), t.f(3), alpha=1)
        yield call(f"{name}.Tensor", t.i(3), t.i(3), alpha=3)
        yield call(f"{name}.Tensor", t.f(3), 2)
        yield call(f"{name}.Tensor", t.i(3), 2.5)
        yield call(f"{name}.Tensor", t.h(3), 2.5)
        yield call(f"{name}.Tensor", t.i(3), t.f(3), alpha=0.5)
        yield call(f"{name}.Scalar", t.f(3), 3, 2)
        yield call(f"{name}.Tensor", t.c(3), t.f(3), alpha=2)
    for alpha in (True, False, 1):
        yield call("add.Tensor", *t.all_pairs(t.of([True, False])), alpha=alpha)
    yield call("add.Tensor", t.b(4), t.i(4))
    yield call("mul.Tensor", t.b(4), 2.5)
    yield call("mul.Tensor", t.c(4), t.f(4))
    yield call("mul.Scalar", t.i(4), 3)


def _quotients(t: Tensors) -> Iterator[Call]:
    ends = t.of([0.0, -0.0, 1, -1, 0.3, 3, -3, 7.5, 1e-30, 1e30, 0.1, INF, -INF, NAN])
    integers = t.all_pairs(t.of([7, -7, 0, 5, -1, 6]), t.of([2, -2, 3, -5, 1]))
    for mode in ("floor", "trunc"):
        yield call("div.Tensor_mode", *t.all_pairs(ends), rounding_mode=mode)
        yield call("div.Tensor_mode", *integers, rounding_mode=mode)
        yield call("div.Tensor_mode", *t.all_pairs(t.f(6), t.f(5) * 0.01), rounding_mode=mode)
        yield call("div.Tensor_mode", t.of([7, -7, 1]), t.of(2.0), rounding_mode=mode)
        yield call("div.Tensor_mode", t.of([5, 9], t.torch.uint8), 2, rounding_mode=mode)
        wide = t.of([9762862.0, -6697055.0]), t.of([1.4442534446716309, 0.8122267723083496])
        yield call("div.Tensor_mode", *wide, rounding_mode=mode)
        yield call("div.Tensor_mode", t.h(6), t.h(6), rounding_mode=mode)
    yield call("div.Tensor_mode", t.f(3), 2.0, rounding_mode=None)
    yield call("div.Tensor", *integers)
    yield call("div.Tensor", t.i(3), 2)
    yield call("div.Tensor", t.b(3), t.of(4))
    yield call("div.Tensor", t.c(3), t.c(3))


def _powers(t: Tensors) -> Iterator[Call]:
    for exponent in (2, 3, 0, 1, -1, -2, 0.5, -0.5, 1.5, 8, 9, 2.0, 2.5, -9.0, INF, -INF, NAN):
        yield call("pow.Tensor_Scalar", t.odd, exponent)
    for exponent in (41, -35, 64.0):
        yield call("pow.Tensor_Scalar", t.of([0.75, -1.3, 1.01, 2.0]), exponent)
    for exponent in (0, 1, 2, 3, 9, 0.5, 2.0):
        yield call("pow.Tensor_Scalar", t.of([3, -2, 0, 1]), exponent)
    yield call("pow.Tensor_Scalar", t.of([3, 2, 1]), -1.0)
    yield call("pow.Tensor_Scalar", t.h(4), 2)
    yield call("pow.Tensor_Scalar", t.c(4), 2)
    yield call("pow.Tensor_Scalar", t.b(4), 2)
    yield call("pow.Tensor_Tensor", *t.all_pairs(t.odd))
    yield call("pow.Tensor_Tensor", *t.all_pairs(t.of([3, -2, 0, 1]), t.of([0, 1, 2, 5])))
    yield call("pow.Tensor_Tensor", t.i(3), t.f(3))
    yield call("pow.Scalar", 2.0, t.odd)
    yield call("pow.Scalar", 10000.0, t.of([0.0, 0.25, 1.0]))
    yield call("pow.Scalar", 3, t.of([0, 1, 4]))


def _others(t: Tensors) -> Iterator[Call]:
    yield call("where.self", t.b(2, 3), t.f(3), t.f(2, 1))
    yield call("where.self", t.b(3), t.i(3), t.of(1.5))
    yield call("where.self", t.b(3), t.h(3), t.of(1.5))
    yield call("complex.default", t.f(2, 1), t.f(3))
    yield call("polar.default", t.f(2, 1).abs(), t.f(3))
    yield call("copysign.Scalar", t.f(3), -2)
    yield call("atan2.default", t.i(3), t.i(3))
    yield call("copysign.Tensor", t.i(3), t.f(3))
