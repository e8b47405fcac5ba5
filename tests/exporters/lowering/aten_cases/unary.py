"""Samples of unary operators: points where functions are not smooth or undefined, and integers."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call

FLOAT_FUNCTIONS = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "digamma", "erf"),
    *("erfc", "erfinv", "exp", "exp2", "expm1", "lgamma", "log", "log10", "log1p", "log2"),
    *("reciprocal", "rsqrt", "sigmoid", "sin", "sinh", "sqrt", "tan", "tanh"),
)
ROUNDED = ("ceil", "floor", "trunc", "round", "abs", "sign", "isinf", "isnan", "signbit", "relu")


def cases(t: Tensors) -> Iterator[Call]:
    for name in (*FLOAT_FUNCTIONS, *ROUNDED, "logical_not", "neg"):
        yield call(f"{name}.default", t.odd)
        yield call(f"{name}.default", t.of([-2, 0, 1, 3]))
        yield call(f"{name}.default", t.of([0.0, 0.5, -0.5, 2.0]).half())
        if name not in ("neg", "abs", "relu", "ceil", "floor", "trunc", "round"):
            yield call(f"{name}.default", t.of([True, False]))
    yield call("bitwise_not.default", t.i(4))
    yield call("bitwise_not.default", t.b(4))
    for name in ("_conj", "_conj_physical", "neg", "abs", "exp", "sigmoid"):
        yield call(f"{name}.default", t.c(4))
    for decimals in (2, 0, -1):
        yield call("round.decimals", t.of([12.345, -0.125, 15.0, 25.0, 0.5]), decimals=decimals)
    yield from _activations(t)
    yield from _clamps(t)


def _activations(t: Tensors) -> Iterator[Call]:
    yield call("relu.default", t.h(4))
    yield call("gelu.default", t.odd[:16])
    yield call("gelu.default", t.odd[:16], approximate="tanh")
    yield call("gelu.default", t.h(9), approximate="tanh")
    yield call("gelu.default", t.h(9))
    yield call("elu.default", t.odd)
    yield call("elu.default", t.odd, 1.5, 0.5, 2.0)
    yield call("elu.default", t.h(9), 1.5)
    yield call("elu.default", t.odd, -1.5)
    yield call("leaky_relu.default", t.odd)
    yield call("leaky_relu.default", t.odd, 0.2)
    yield call("leaky_relu.default", t.h(9), 0.3)
    yield call("leaky_relu.default", t.odd, -0.2)
    yield call("hardtanh.default", t.odd)
    yield call("hardtanh.default", t.odd, -0.25, 2.75)
    yield call("hardtanh.default", t.h(9), 0, 6)


def _clamps(t: Tensors) -> Iterator[Call]:
    yield call("clamp.default", t.odd, -1, 2)
    yield call("clamp.default", t.odd, 0.5)
    yield call("clamp.default", t.odd, None, 0.25)
    yield call("clamp.default", t.odd, 2, 1)
    yield call("clamp.default", t.i(5), -1.5, 2)
    yield call("clamp.default", t.i(5), 0)
    yield call("clamp.default", t.h(5), 0.1)
    yield call("clamp.Tensor", t.odd, t.of(-1.0), t.of([2.0] * 20))
    yield call("clamp.Tensor", t.f(2, 3), None, t.f(3))
    yield call("clamp.Tensor", t.i(3), t.of(0.5))
    yield call("clamp.Tensor", t.f(3), t.of([0.0, float("nan"), 1.0]))
