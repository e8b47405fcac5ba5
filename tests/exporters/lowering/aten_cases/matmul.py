"""Samples of matrix products."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call


def cases(t: Tensors) -> Iterator[Call]:
    yield call("mm.default", t.f(3, 40), t.f(40, 2))
    yield call("mm.default", t.i(3, 4), t.i(4, 2))
    yield call("mm.default", t.h(3, 40), t.h(40, 2))
    yield call("bmm.default", t.f(2, 3, 4), t.f(2, 4, 5))
    yield call("bmm.default", t.h(2, 3, 4), t.h(2, 4, 5))
    for x in (t.f(3, 40), t.f(2, 3, 40), t.f(40)):
        yield call("linear.default", x, t.f(5, 40))
        yield call("linear.default", x, t.f(5, 40), t.f(5))
    yield call("linear.default", t.h(2, 3, 40), t.h(5, 40), t.h(5))
    yield call("linear.default", t.f(2, 3, 40), t.f(40))
    yield call("linear.default", t.i(2, 3, 4), t.i(5, 4), t.i(5))
    for first, second in (
        *(((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 3, 4), (4,))),
        *(((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (7, 4, 5)), ((4,), (2, 4, 5))),
    ):
        yield call("matmul.default", t.f(*first), t.f(*second))
        yield call("matmul.default", t.h(*first), t.h(*second))
    shapes = {"addmm": ((3, 4), (4, 2)), "addmv": ((3, 4), (4,)), "addbmm": ((5, 3, 4), (5, 4, 2))}
    for name, (first, second) in shapes.items():
        out = (3,) if name == "addmv" else (3, 2)
        for scales in ({}, {"beta": 0.5, "alpha": 2.5}, {"beta": 0}, {"beta": 2}, {"alpha": 3}):
            yield call(f"{name}.default", t.f(*out), t.f(*first), t.f(*second), **scales)
        nothing = t.of([float("nan")]).expand(out).contiguous()
        yield call(f"{name}.default", nothing, t.f(*first), t.f(*second), beta=0)
        yield (
            call(f"{name}.default", t.f(out[-1]), t.f(*first), t.f(*second))
            if (out[-1] != 3)
            else call(f"{name}.default", t.f(1), t.f(*first), t.f(*second))
        )
        yield call(f"{name}.default", t.i(*out), t.i(*first), t.i(*second), beta=2, alpha=3)
    yield call("addmm.default", t.h(2), t.h(3, 40), t.h(40, 2))
    yield call("addmm.default", t.h(2), t.h(3, 40), t.h(40, 2), beta=0.5, alpha=2)
    yield call("addmm.default", t.h(2), t.h(3, 40), t.h(40, 2), beta=0)
    # What is left of a sum that cancels is nothing where the product was rounded before.
    first, second = t.h(3, 40), t.h(40, 2)
    yield call("addmm.default", -(first @ second), first, second)
    for p in (2.0, 1.0, 0.0, 3.0, float("inf")):
        yield call("_cdist_forward.default", t.f(2, 3, 4), t.f(2, 5, 4), p, None)
        yield call("_cdist_forward.default", t.f(1, 3, 4), t.f(2, 5, 4), p, 2)
    same = t.of([[1.0, 2, 0], [1, 1, 5]])
    yield call("_cdist_forward.default", same, same, 0.0, None)
    yield call("_cdist_forward.default", same, same, 2.0, 2)
