"""Samples of convolutions: groups, dilation, transposed with output padding, without a batch."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call


def cases(t: Tensors) -> Iterator[Call]:
    def plain(x: object, weight: object, bias: object, *rest: object) -> Call:
        return call("convolution.default", x, weight, bias, *rest)

    x = t.f(2, 4, 9)
    yield plain(x, t.f(6, 4, 3), t.f(6), [1], [0], [1], False, [0], 1)
    yield plain(x, t.f(6, 2, 3), t.f(6), [2], [1], [2], False, [0], 2)
    yield plain(x, t.f(4, 1, 4), None, [3], [2], [1], False, [0], 4)
    yield plain(x, t.f(4, 6, 3), t.f(6), [1], [0], [1], True, [0], 1)
    yield plain(x, t.f(4, 3, 3), t.f(6), [3], [1], [2], True, [2], 2)
    yield plain(x, t.f(4, 3, 4), None, [2], [3], [1], True, [1], 4)
    yield plain(t.h(2, 4, 9), t.h(6, 4, 3), t.h(6), [1], [1], [1], False, [0], 1)
    y = t.f(1, 4, 5, 6)
    yield plain(y, t.f(2, 4, 3, 2), t.f(2), [2, 1], [1, 0], [1, 2], False, [0, 0], 1)
    yield plain(y, t.f(2, 4, 2, 2), None, [2], [1], [1], False, [0], 1)
    yield plain(y, t.f(4, 2, 3, 2), t.f(2), [2, 3], [1, 0], [1, 2], True, [1, 0], 1)
    yield plain(y, t.f(4, 1, 3, 3), t.f(2), [2, 2], [0, 1], [1, 1], True, [0, 1], 2)
    z = t.f(1, 2, 3, 4, 3)
    yield plain(z, t.f(3, 2, 2, 2, 2), t.f(3), [1], [1], [1], False, [0], 1)
    yield plain(z, t.f(2, 3, 2, 1, 2), None, [1, 2, 1], [0], [1], True, [0, 1, 0], 1)


def open_cases(t: Tensors) -> Iterator[Call]:
    """Calls with symbolic sizes where columns that no stride reaches are cut off, on one axis and on two."""
    name = "convolution.default"
    x, weight = t.f(2, 4, 11), t.f(6, 2, 3)
    for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (3, 2, 1), (4, 0, 1), (2, 0, 2)):
        yield call(name, x, weight, None, [stride], [padding], [dilation], False, [0], 2)
    yield call(name, x, t.f(4, 3, 3), None, [2], [1], [1], True, [1], 2)
    y = t.f(1, 2, 7, 11)
    yield call(name, y, t.f(3, 2, 3, 2), t.f(3), [2, 3], [1, 0], [1, 1], False, [0, 0], 1)
    yield call(name, y, t.f(3, 2, 2, 3), t.f(3), [3, 4], [0, 1], [2, 1], False, [0, 0], 1)
    yield call(name, t.f(1, 2, 4, 11), t.f(3, 2, 2, 3), None, [3], [1], [1], False, [0], 1)
    yield call(name, t.f(1, 2, 11, 4), t.f(3, 2, 3, 2), None, [3], [1], [1], False, [0], 1)
