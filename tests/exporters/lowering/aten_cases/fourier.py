"""Samples of Fourier transforms: all norms, both directions, odd lengths, one-sided and two-sided."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call


def cases(t: Tensors) -> Iterator[Call]:
    for norm in (0, 1, 2):
        for onesided in (True, False):
            yield call("_fft_r2c.default", t.f(3, 5), [1], norm, onesided)
        yield call("_fft_r2c.default", t.f(3, 4), [0, 1], norm, True)
        for forward in (True, False):
            yield call("_fft_c2c.default", t.c(3, 5), [1], norm, forward)
            yield call("_fft_c2c.default", t.c(3, 4), [0, 1], norm, forward)
        yield call("_fft_c2r.default", t.c(3, 3), [1], norm, 5)
        yield call("_fft_c2r.default", t.c(3, 3), [1], norm, 4)
        yield call("_fft_c2r.default", t.c(3, 3), [0, 1], norm, 4)
    yield call("_fft_r2c.default", t.f(4, 3), [0], 0, True)


def open_cases(t: Tensors) -> Iterator[Call]:
    """Calls with symbolic lengths, which JAX's own transform does not support."""
    for norm in (0, 1, 2):
        yield call("_fft_r2c.default", t.f(3, 11), [1], norm, True)
        yield call("_fft_r2c.default", t.f(11, 7), [0, 1], norm, True)
        for forward in (True, False):
            yield call("_fft_c2c.default", t.c(11, 3), [0], norm, forward)
    yield call("_fft_r2c.default", t.f(4, 11), [0, 1], 0, True)
    yield call("_fft_c2c.default", t.c(4, 11), [0, 1], 0, True)
    yield call("_fft_c2c.default", t.c(11, 2, 3), [0], 0, True)
    yield call("_fft_r2c.default", t.f(2, 11, 7), [1], 0, False)
    yield call("_fft_r2c.default", t.f(2, 7, 11), [2, 1], 0, True)
    yield call("_fft_r2c.default", t.f(11, 3), [1], 0, True)
    yield call("_fft_r2c.default", t.f(3, 11).double(), [1], 1, True)
    yield call("_fft_c2c.default", t.c(11, 3), [1], 0, True)
    yield call("_fft_c2c.default", t.c(2, 11, 7), [1, 2], 2, True)
