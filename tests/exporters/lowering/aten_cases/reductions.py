"""Samples of reductions and scans: ties, NaN, integers, empty tensors."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call

INF, NAN = float("inf"), float("nan")


def cases(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 4, 5)
    for name, overload in (("sum", "dim_IntList"), ("mean", "dim")):
        yield call(f"{name}.{overload}", x, [0, -1], True)
        yield call(f"{name}.{overload}", x, [1])
        yield call(f"{name}.{overload}", x, [])
        yield call(f"{name}.{overload}", x, None)
        yield call(f"{name}.default", t.h(40, 5))
        yield call(f"{name}.{overload}", t.h(40, 5), [0])
        yield call(f"{name}.{overload}", t.i(3, 2), [0], dtype=t.torch.float32)
        yield call(f"{name}.{overload}", t.f(), [0])
    yield call("sum.dim_IntList", t.b(3, 4), [0])
    yield call("sum.dim_IntList", t.i(3, 4).int(), [0])
    yield call("sum.default", t.f(3), dtype=t.torch.int64)
    yield call("prod.default", t.f(5))
    yield call("prod.default", t.i(5).int())
    yield call("prod.dim_int", t.f(3, 4), -1, True)
    yield call("prod.dim_int", t.b(3, 2), 1)
    yield call("prod.dim_int", t.i(3, 2), 0, dtype=t.torch.float32)
    yield call("prod.default", t.h(6))
    yield call("prod.default", t.i(3), dtype=t.torch.int32)
    yield call("sum.default", t.i(3), dtype=t.torch.int32)
    yield call("cumsum.default", t.i(3), 0, dtype=t.torch.int32)
    yield call("cumprod.default", t.i(3), 0, dtype=t.torch.int32)
    yield from _extremes(t)
    yield from _booleans(t)
    yield from _variances(t)
    yield from _cumulative(t)
    yield from _softmaxes(t)
    yield from _counts(t)


def _extremes(t: Tensors) -> Iterator[Call]:
    ties = t.i(4, 6, low=0, high=3)
    odd = t.of([[1.0, NAN, 3, NAN], [-INF, 2, 2, INF], [-1, -1, -2, -3]])
    for name in ("amax", "amin"):
        yield call(f"{name}.default", odd, [1])
        yield call(f"{name}.default", t.f(2, 3, 4), [0, -1], True)
        yield call(f"{name}.default", ties)
        yield call(f"{name}.default", t.b(3, 3), [0])
    for name in ("max", "min"):
        yield call(f"{name}.default", odd)
        yield call(f"{name}.default", odd[1:])
        yield call(f"{name}.default", ties)
        for values in (odd, ties, t.f()):
            yield call(f"{name}.dim", values, 0)
        yield call(f"{name}.dim", odd, -1, True)
        yield call(f"arg{name}.default", odd)
        yield call(f"arg{name}.default", odd[1:], -1)
        yield call(f"arg{name}.default", ties, 0, True)
        yield call(f"arg{name}.default", t.f(3, 3), None, True)
        yield call(f"arg{name}.default", t.f())
        yield call(f"arg{name}.default", t.f(), 0)


def _booleans(t: Tensors) -> Iterator[Call]:
    x = t.of([[0.0, 0.0, NAN], [0.0, -0.0, 0.0], [1.0, 0.0, 2.0]])
    yield call("any.default", x)
    yield call("any.default", x[1])
    yield call("any.dim", x, 1)
    yield call("any.dim", x, -1, True)
    yield call("any.dims", x, [0, 1], True)
    yield call("any.dims", x, None)
    for name in ("_is_all_true", "_is_any_true"):
        for values in ([True, True], [True, False], [False, False]):
            yield call(f"{name}.default", t.of(values))


def _variances(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 4, 5) * 2 + 1
    for name in ("var", "var_mean"):
        yield call(f"{name}.correction", x, [1])
        yield call(f"{name}.correction", x, [0, -1], correction=0, keepdim=True)
        yield call(f"{name}.correction", x, None, correction=2)
        yield call(f"{name}.correction", x)
        yield call(f"{name}.correction", t.h(20), [0], correction=1)
        yield call(f"{name}.correction", t.h(40) * 0.03 + 3, [0])
        yield call(f"{name}.correction", t.c(6), [0])
        yield call(f"{name}.correction", t.f(3, 1), [1])
        yield call(f"{name}.correction", t.f(3, 2), [1], correction=3)
    for order in (2, 1, 0, INF, -INF, 3, 0.5, -1):
        yield call("linalg_vector_norm.default", x, order, [1])
    yield call("linalg_vector_norm.default", x)
    yield call("linalg_vector_norm.default", x, 2, [0, -1], True)
    yield call("linalg_vector_norm.default", x, 1, [0], True)
    yield call("linalg_vector_norm.default", x, INF, [0], True)
    yield call("linalg_vector_norm.default", x, -INF, [0], True)
    yield call("linalg_vector_norm.default", t.of([[0.0, 1], [2, 0]]), 0, [0], True)
    yield call("linalg_vector_norm.default", t.h(30), 2)
    yield call("linalg_vector_norm.default", t.h(4), 2, dtype=t.torch.float32)
    yield call("linalg_vector_norm.default", t.c(4), 2)
    yield call("linalg_vector_norm.default", t.h(30), 3, None, True)


def _cumulative(t: Tensors) -> Iterator[Call]:
    ties = t.i(4, 6, low=0, high=3)
    odd = t.of([[1.0, 1, NAN, 3, NAN, 5], [-INF, 2, 2, INF, INF, -1], [-1, -1, -2, -3, 0, 0]])
    for name in ("cummax", "cummin"):
        for values, dim in ((odd, 1), (ties, 0), (ties, -1), (t.f(), 0), (t.h(5), 0)):
            yield call(f"{name}.default", values, dim)
    for name in ("cumsum", "cumprod"):
        yield call(f"{name}.default", t.f(3, 4), 0)
        yield call(f"{name}.default", t.f(3, 4), -1)
        yield call(f"{name}.default", t.i(3, 4), 1)
        yield call(f"{name}.default", t.b(5), 0)
        yield call(f"{name}.default", t.i(4).int(), 0)
        yield call(f"{name}.default", t.i(4), 0, dtype=t.torch.float32)
        yield call(f"{name}.default", t.f(), 0)
    yield call("cumsum.default", t.h(30), 0)
    yield call("cumprod.default", t.h(4), 0)
    yield call("logcumsumexp.default", t.f(3, 4), -1)
    yield call("logcumsumexp.default", t.f(3, 4), 0)
    yield call("logcumsumexp.default", t.f(), 0)


def _softmaxes(t: Tensors) -> Iterator[Call]:
    x = t.of([[1.0, -INF, 80, 0], [0, 0, 0, 0], [-3, 2, -INF, -INF]])
    for name in ("_softmax", "_log_softmax"):
        for dim in (1, 0, -1):
            yield call(f"{name}.default", x, dim, False)
        yield call(f"{name}.default", t.of([[-INF, -INF]]), 1, False)
        yield call(f"{name}.default", t.f(), 0, False)
        yield call(f"{name}.default", t.h(3, 4), -1, False)
        yield call(f"{name}.default", t.f(3, 4).half(), -1, True)
        yield call(f"{name}.default", t.f(2, 3, 4) * 9, 1, False)


def _counts(t: Tensors) -> Iterator[Call]:
    x = t.of([0.0, 1, 2, 3, 4, 0.5, -1, 9, 4, 2.5])
    yield call("histc.default", x, 4, 0, 4)
    yield call("histc.default", x, 5)
    yield call("histc.default", x)
    yield call("histc.default", x, 4, 1, 3)
    yield call("histc.default", t.h(300), 7, -1, 1)
    yield call("histc.default", t.of([2.0, 2.0]), 4)
    yield call("histc.default", t.of([2.0, 2.0]), 3, 2, 2)
    yield call("histc.default", t.i(20, low=0).float(), 6, 0, 5)
    yield call("histc.default", t.f(3, 5), 3, -1, 1)


def open_cases(t: Tensors) -> Iterator[Call]:
    """Calls that reduce over symbolic axes."""
    x = t.f(11, 3, 7)
    for name in ("sum.dim_IntList", "mean.dim", "amax.default", "var.correction"):
        yield call(name, x, [0])
        yield call(name, x, [0, -1], keepdim=True)
    yield call("var_mean.correction", x, [0, 2], correction=0)
    yield call("linalg_vector_norm.default", x, 2, [0])
    odd = t.of([[1.0, 1, NAN, 3, NAN, 5, 5], [-INF, 2, 2, INF, INF, -1, 9]])
    falling = t.of([[3, 3, 1, 2, 1, 0, 0], [0, 0, 0, 4, 4, 5, 5]])
    for name in ("cummax", "cummin"):
        for values, dim in (
            (odd, 1),
            (falling, -1),
            (falling.T.contiguous(), 0),
            (t.i(2, 11, 3), 1),
            (t.f(11, 2, 3), 0),
        ):
            yield call(f"{name}.default", values, dim)
    for name in ("cumsum", "cumprod", "logcumsumexp"):
        yield call(f"{name}.default", t.f(2, 11), 1)
    for name in ("_softmax", "_log_softmax"):
        yield call(f"{name}.default", t.f(2, 11, 3), 1, False)
    for name in ("argmax", "argmin"):
        yield call(f"{name}.default", x, 0)
