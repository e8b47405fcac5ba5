"""Samples of pooling and interpolation: padding, ceil mode, aligned corners, sizes that do not divide."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Size, Tensors, call

NAN = float("nan")


def cases(t: Tensors) -> Iterator[Call]:
    yield from _max_pools(t)
    yield from _average_pools(t)
    yield from _interpolations(t)
    yield from _antialiased(t)
    yield from _grids(t)


def _max_pools(t: Tensors) -> Iterator[Call]:
    pool = "max_pool2d_with_indices.default"
    x, ties = t.f(1, 2, 7, 6), t.i(1, 2, 6, 7, low=0, high=3).float()
    yield call(pool, x, [2, 2])
    yield call(pool, x, [3])
    yield call(pool, x, [3, 2], [2, 1], [1, 1], [1, 2])
    yield call(pool, x, [3, 2], [2, 3], [1, 0], [2, 1], True)
    yield call(pool, x, [2, 2], [3, 3], [0, 1], [1, 1], True)
    yield call(pool, ties, [3, 3], [2, 2], [1, 1])
    yield call(pool, ties[0], [2, 3], [2, 2])
    odd = x.clone()
    odd[0, 0, 2, 3] = odd[0, 0, 3, 3] = NAN
    yield call(pool, odd, [3, 3], [2, 2])
    yield call(pool, t.i(1, 1, 5, 5), [2, 2], [2, 2], [1, 1])
    yield call(pool, t.h(1, 1, 5, 5), [2, 2])
    yield call(pool, -t.f(1, 1, 4, 4).abs(), [2, 2], [2, 2], [1, 1])
    deep = "max_pool3d_with_indices.default"
    yield call(deep, t.f(1, 2, 4, 5, 4), [2, 2, 2])
    yield call(deep, t.f(1, 2, 4, 5, 4), [2, 3, 2], [2, 2, 1], [1, 1, 0], [1, 1, 2], True)


def _average_pools(t: Tensors) -> Iterator[Call]:
    x = t.f(1, 2, 7, 6)
    for rounding in (False, True):
        for counted in (True, False):
            yield call("avg_pool2d.default", x, [3, 2], [2, 3], [1, 1], rounding, counted)
            yield call("avg_pool2d.default", x, [2, 3], [3, 2], [1, 1], rounding, counted)
            yield call("avg_pool2d.default", x, [2], [], [0], rounding, counted)
    yield call("avg_pool2d.default", x, [2, 2], [2, 2], [0, 0], True, True, 3)
    yield call("avg_pool2d.default", x[0], [2, 2])
    yield call("avg_pool2d.default", t.h(1, 2, 7, 6), [3, 3], [2, 2], [1, 1])
    deep = t.f(1, 2, 5, 4, 6)
    yield call("avg_pool3d.default", deep, [2, 3, 2])
    yield call("avg_pool3d.default", deep, [2, 3, 2], [2, 2, 1], [1, 1, 0])
    yield call("avg_pool2d.default", x, [3, 2], [2, 3], [1, 1])
    yield call("avg_pool3d.default", deep, [2, 3, 2], [2, 2, 1], [1, 1, 0], True, False)
    yield call("avg_pool3d.default", deep, [2, 3, 2], [2, 2, 3], [1, 1, 0], True, True)
    yield call("avg_pool3d.default", deep, [2, 3, 2], [2, 2, 1], [1, 1, 0], False, True, 5)
    for size in ([3, 4], [1, 1], [7, 6], [9, 5]):
        yield call("_adaptive_avg_pool2d.default", x, size)
    yield call("_adaptive_avg_pool2d.default", t.h(1, 2, 7, 6), [3, 4])
    yield call("_adaptive_avg_pool3d.default", deep, [2, 3, 4])
    yield call("_adaptive_avg_pool2d.default", x[0], [3, 4])


def _interpolations(t: Tensors) -> Iterator[Call]:
    x = t.f(1, 2, 5, 4)
    sizes = ([7, 9], [3, 2], [1, 1], [5, 4], [10, 12])
    for size in sizes:
        yield call("upsample_nearest2d.vec", x, size, None)
        for align in (False, True):
            yield call("upsample_bilinear2d.vec", x, size, align, None)
            yield call("upsample_bilinear2d.default", x, size, align)
            yield call("upsample_bicubic2d.default", x, size, align)
    for factors in ([2.0, 3.0], [1.3, 0.7], [0.5, 2.5]):
        size = [int(5 * factors[0]), int(4 * factors[1])]
        yield call("upsample_nearest2d.vec", x, None, factors)
        for align in (False, True):
            yield call("upsample_bilinear2d.vec", x, None, align, factors)
            yield call("upsample_bilinear2d.default", x, size, align, *factors)
            yield call("upsample_bicubic2d.default", x, size, align, *factors)
    for align in (False, True):
        deep = t.f(1, 2, 3, 4, 5)
        yield call("upsample_trilinear3d.default", deep, [5, 3, 7], align)
        yield call("upsample_trilinear3d.default", deep, [5, 3, 7], align, 1.8, 0.9, 1.5)
    # More cells than the factors say: the last ones are of the last value.
    for name in ("upsample_bilinear2d", "upsample_bicubic2d"):
        yield call(f"{name}.default", x, [9, 7], False, 1.0, 1.25)
    yield call("upsample_nearest2d.vec", t.h(1, 2, 5, 4), [7, 9], None)
    yield call("upsample_bilinear2d.vec", t.h(1, 2, 5, 4), [7, 9], False, None)
    yield call("upsample_bicubic2d.default", t.h(1, 2, 5, 4), [7, 9], False)


def _antialiased(t: Tensors) -> Iterator[Call]:
    x = t.f(1, 2, 9, 8)
    for name in ("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"):
        for size in ([4, 3], [12, 11], [1, 1], [9, 8], [2, 13]):
            for align in (False, True):
                yield call(f"{name}.default", x, size, align)
        yield call(f"{name}.default", x, [4, 3], False, 0.5, 0.4)


def _grids(t: Tensors) -> Iterator[Call]:
    x, grid = t.f(2, 3, 5, 4), t.f(2, 3, 6, 2) * 1.2
    for mode in (0, 1, 2):
        for padding in (0, 1, 2):
            for align in (False, True):
                yield call("grid_sampler_2d.default", x, grid, mode, padding, align)
    far = t.f(2, 3, 6, 2) * 6
    for mode in (0, 2):
        for align in (False, True):
            yield call("grid_sampler_2d.default", x, far, mode, 2, align)
    corners = t.of([[[[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5], [-1.0, 1.0]]]]).expand(2, 1, 4, 2)
    for mode in (0, 1, 2):
        for align in (False, True):
            yield call("grid_sampler_2d.default", x, corners.contiguous(), mode, 0, align)


def open_cases(t: Tensors) -> Iterator[Call]:
    """Calls whose number of windows or cells depends on symbolic sizes."""
    x = t.f(1, 2, 11, 7)
    for rest in (([2, 2],), ([3, 2], [2, 1], [1, 1]), ([3, 2], [3, 2], [1, 0], [1, 2], True)):
        yield call("max_pool2d_with_indices.default", x, *rest)
    yield call("max_pool2d_with_indices.default", x, [3], [2], [0], [1], True)
    yield call("avg_pool2d.default", x, [2, 2])
    for rounding in (False, True):
        for counted in (False, True):
            yield call("avg_pool2d.default", x, [3, 2], [2, 2], [1, 1], rounding, counted)
    yield call("_adaptive_avg_pool2d.default", x, [3, 4])
    yield call("_adaptive_avg_pool2d.default", x, [Size.of("m"), 2])
    double_size, odd = [Size.of("2*n"), Size.of("3*m")], [13, Size.of("n")]
    yield call("upsample_nearest2d.vec", x, None, [2.0, 3.0])
    yield call("upsample_nearest2d.vec", x, None, [1.5, 0.25])
    yield call("upsample_nearest2d.vec", x, double_size, None)
    for align in (False, True):
        yield call("upsample_bilinear2d.vec", x, None, align, [2.5, 0.75])
        for size in (double_size, odd):
            yield call("upsample_bilinear2d.default", x, size, align)
            yield call("upsample_bicubic2d.default", x, size, align)
            yield call("_upsample_bilinear2d_aa.default", x, size, align)
    for mode, padding in ((0, 0), (1, 1), (2, 2)):
        yield call("grid_sampler_2d.default", x, t.f(1, 7, 3, 2), mode, padding, False)
