"""Samples of views and copies: negative axes, steps, bounds beyond the ends, empty tensors."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Size, Tensors, call

SAME = ("alias", "clone", "lift_fresh", "lift_fresh_copy")


def cases(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 4, 5)
    for name in SAME:
        yield call(f"{name}.default", x)
        yield call(f"{name}.default", t.i(2))
    yield call("alias.default", t.c(2))
    for name in ("view", "_reshape_copy"):
        yield call(f"{name}.default", x, [4, 15])
        yield call(f"{name}.default", x, [2, -1, 3])
        yield call(f"{name}.default", t.f(1), [])
    yield call("view.dtype", t.f(2, 3), t.torch.int32)
    yield call("view.dtype", t.f(2, 4), t.torch.bfloat16)
    yield call("view.dtype", t.h(2, 4), t.torch.float32)
    yield call("view.dtype", t.f(2, 3), t.torch.float32)
    yield call("view.dtype", t.h(2, 3, 4), t.torch.int32)
    yield call("view.dtype", t.h(3, 1, 4), t.torch.int64)
    yield call("view.dtype", t.f(3, 1, 2), t.torch.int16)
    yield call("view.dtype", t.f(), t.torch.int32)
    torch = t.torch
    for source in (t.f(3) * 9, t.i(3), t.b(3), t.h(3)):
        for dtype in (torch.float32, torch.int64, torch.bool, torch.float16):
            yield call("_to_copy.default", source, dtype=dtype)
    yield call("_to_copy.default", x)
    yield call("_to_copy.default", t.f(3), dtype=torch.complex64)
    yield call("_to_copy.default", t.c(3), dtype=torch.complex128)
    yield call("_to_copy.default", t.c(3), dtype=torch.float32)
    yield call("copy.default", t.f(2, 3), t.i(3))
    yield call("copy.default", t.i(2, 3), t.f(3) * 4, True)
    yield from _axes(t)
    yield from _concatenations(t)
    yield from _slices(t)
    yield from _windows(t)
    yield from _numbers(t)


def _axes(t: Tensors) -> Iterator[Call]:
    x = t.f(2, 3, 4)
    yield call("permute.default", x, [2, 0, 1])
    yield call("permute.default", x, [-1, 0, -2])
    yield call("permute.default", t.f(), [])
    yield call("expand.default", t.f(3, 1), [2, -1, 4])
    yield call("expand.default", t.f(3, 1), [3, 2], implicit=True)
    yield call("expand.default", t.f(), [2])
    yield call("squeeze.dims", t.f(1, 3, 1), [0, 1, -1])
    yield call("squeeze.dims", t.f(1, 3, 1), [-3])
    yield call("squeeze.dims", t.f(), [0])
    for dim in (0, 1, 3, -1, -2):
        yield call("unsqueeze.default", x, dim)
    yield call("flip.default", x, [0, -1])
    yield call("flip.default", t.f(), [0])
    yield call("flip.default", x, [])
    yield call("repeat.default", t.f(2, 3), [2, 1, 3])
    yield call("repeat.default", t.f(2, 3), [2, 0])
    yield call("repeat.default", t.f(), [3])
    for offset, first, second in ((0, 0, 1), (1, 1, 2), (-1, 0, 2), (1, 2, 0), (0, -1, -2)):
        yield call("diagonal.default", x, offset, first, second)
    yield call("diagonal.default", x)


def _concatenations(t: Tensors) -> Iterator[Call]:
    yield call("cat.default", [t.f(2, 3), t.f(2, 1)], -1)
    yield call("cat.default", [t.f(2, 3), t.f(1, 3)])
    yield call("cat.default", [t.f(2, 3), t.f(0), t.f(1, 3)], 0)
    yield call("cat.default", [t.f(0), t.f(0)])
    yield call("cat.default", [t.f(0), t.f(2)])
    yield call("cat.default", [t.i(2), t.h(2), t.f(2)])
    yield call("cat.default", [t.i(0), t.f(2, 3)])
    yield call("cat.default", [t.f(0), t.i(2, 3)])
    yield call("cat.default", [t.b(2, 2), t.i(2, 2)], 1)
    for dim in (1, -1):
        yield call("split_with_sizes.default", t.f(2, 6), [1, 0, 5], dim)
    yield call("split_with_sizes.default", t.f(6, 2), [2, 4])
    for dim, index in ((0, 0), (0, 1), (1, -1), (-1, 3), (-2, -3)):
        yield call("select.int", t.f(2, 3, 4), dim, index)
        yield call("select.int", t.f(2, 3, 4), dim, t.of(index))


def _slices(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 7)
    bounds = ((None, None, 1), (2, None, 1), (None, -2, 1), (-5, -1, 2), (1, 2**63 - 1, 3))
    for start, end, step in (*bounds, (-20, 20, 1), (5, 2, 1), (0, 7, 2), (9, 12, 1), (0, 0, 1)):
        yield call("slice.Tensor", x, 1, start, end, step)
        count = len(range(7)[slice(start, end, step)])
        yield call("slice_scatter.default", x, t.f(3, count), -1, start, end, step)
    yield call("slice.Tensor", x)
    yield call("slice.Tensor", x, start=1)
    yield call("slice.Tensor", x, 0, 1)
    yield call("slice.Tensor", x, -2, 1, 2)
    yield call("slice_scatter.default", x, t.f(3, 7))
    yield call("slice_scatter.default", x, t.f(2, 7), start=1)
    yield call("slice_scatter.default", x, t.f(2, 7), 0, 1)
    yield call("slice_scatter.default", x, t.i(1, 7), 0, 1, 2)
    yield call("slice_scatter.default", t.i(3, 2), t.i(3, 2).int(), 0, 0, 3)


def _windows(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 7)
    yield call("unfold.default", x, 1, 3, 2)
    yield call("unfold.default", x, -1, 7, 1)
    yield call("unfold.default", x, 0, 2, 1)
    yield call("unfold.default", t.f(4, 3, 2), 0, 2, 1)
    yield call("unfold.default", t.f(), 0, 1, 1)
    for name in ("as_strided", "as_strided_copy"):
        yield call(f"{name}.default", x, [2, 3], [7, 2])
        yield call(f"{name}.default", x, [2, 3, 2], [1, 2, 3], 4)
        yield call(f"{name}.default", x, [], [], 20)
        yield call(f"{name}.default", x, [3, 4], [0, 1], 0)
    for pad in ([1, 2], [0, 1, 2, 0], [-1, 2], [1, -3, -1, 0], []):
        yield call("constant_pad_nd.default", x, pad, 2.5)
    yield call("constant_pad_nd.default", x, [1, 0])
    yield call("constant_pad_nd.default", t.i(2, 2), [1, 0], 3)
    yield call("constant_pad_nd.default", t.b(2, 2), [1, 0], True)


def _numbers(t: Tensors) -> Iterator[Call]:
    for suffix in ("", "_copy"):
        yield call(f"view_as_real{suffix}.default", t.c(2, 3))
        yield call(f"view_as_complex{suffix}.default", t.f(2, 3, 2))


def open_cases(t: Tensors) -> Iterator[Call]:
    """Calls whose sizes, bounds and indices depend on symbolic sizes."""
    n, x = Size.of("n"), t.f(3, 11, 2)
    yield call("view.default", x, [3, Size.of("2*n")])
    yield call("expand.default", t.f(11, 1), [3, -1, 4])
    yield call("expand.default", t.f(3, 1), [3, n])
    yield call("squeeze.dims", t.f(1, 11, 1), [0, -1])
    yield call("cat.default", [t.f(11, 2), t.f(7, 2), t.f(3, 2)])
    yield call("split_with_sizes.default", t.f(2, 11), [3, Size.of("n-3")], 1)
    for index in (0, 2, -1, -3):
        yield call("select.int", x, 1, index)
    yield call("select.int", x, 1, Size.of("n-2"))
    for index in (0, 2, -1):
        yield call("select.int", x, 1, t.of(index))
    bounds = ((None, -2, 1), (2, None, 2), (-3, None, 1), (1, Size.of("n-1"), 1), (0, 3, 1))
    for start, end, step in (*bounds, (Size.of("n-3"), 2**63 - 1, 1), (0, 2**63 - 1, 1)):
        yield call("slice.Tensor", x, 1, start, end, step)
        count = len(range(11)[slice(start, end, step)])
        yield call("slice_scatter.default", x, t.f(3, count, 2), 1, start, end, step)
    yield call("flip.default", x, [1])
    yield call("repeat.default", x, [2, 1, 3])
    yield call("repeat.default", t.f(2), [n, 3])
    yield call("unfold.default", t.f(3, 11), 1, 3, 2)
    yield call("unfold.default", t.f(11, 3), 0, 2, 1)
    yield call("as_strided.default", t.f(11, 4), [n, 2], [4, 1], 2)
    yield call("constant_pad_nd.default", x, [1, 0, -2, 3], 2.5)
    yield call("diagonal.default", t.f(11, 11, 2))
