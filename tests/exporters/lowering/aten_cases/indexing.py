"""Samples of indexing: negative and repeated indices, masks, values for all or for each."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Size, Tensors, call


def cases(t: Tensors) -> Iterator[Call]:
    yield call("embedding.default", t.f(5, 3), t.of([[0, 4], [2, 2]]))
    yield call("embedding.default", t.h(5, 3), t.of([1, 3], t.torch.int32), 1)
    yield call("index_select.default", t.f(3, 4), -1, t.of([3, 0, 3]))
    yield call("index_select.default", t.f(3, 4), 0, t.of(1))
    yield call("index_select.default", t.f(3, 2, 2), 1, t.of([1, 0], t.torch.int32))
    yield call("index_select.default", t.f(), 0, t.of([0]))
    yield from _index(t)
    yield from _put(t)
    yield from _scatters(t)
    yield from _sorts(t)
    yield from _searches(t)
    yield call("masked_scatter.default", t.f(2, 3), t.b(2, 3), t.f(8))
    yield call("masked_scatter.default", t.f(2, 3), t.of([True, False, True]), t.f(4))
    yield call("masked_scatter.default", t.f(3), t.of([[True, True, False]] * 2), t.f(2, 2))
    yield call("masked_scatter.default", t.i(2, 3), t.of([[False] * 3] * 2), t.i(6))
    yield call("repeat_interleave.Tensor", t.of([2, 0, 3]), output_size=5)
    yield call("repeat_interleave.Tensor", t.of([1, 2], t.torch.int32), output_size=3)
    yield call("_local_scalar_dense.default", t.of([3]))
    yield call("_local_scalar_dense.default", t.of(2.5))


def _index(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 4, 5)
    rows, columns = t.of([0, -1, 2, -3]), t.of([[1], [-4]])
    for indices in (
        [rows],
        [None, columns],
        [rows, None, t.of([0, 1, -5, 4])],
        [t.of([0, 2]), columns],
        [None, None, t.of(-1)],
        [None, rows[:2], t.of([3, -2])],
    ):
        yield call("index.Tensor", x, indices)
        accumulated = x[tuple(slice(None) if one is None else one for one in indices)]
        values = t.f(*accumulated.shape)
        yield call("index_put.default", x, indices, values, True)
    yield call("index.Tensor", t.i(4), [t.of([1, -1], t.torch.int32)])
    for flags, more in ((t.b(3, 4), []), (t.b(4), [None]), (t.b(4, 5), [None]), (t.b(3), [])):
        for kind in (t.f, t.i, t.h, t.c, t.b):
            yield call("index.Tensor", kind(3, 4, 5), [*more, flags])
    yield call("index.Tensor", t.f(500), [t.b(500)])
    for flags in (t.of([True, True, True]), t.of([False, False, False])):
        yield call("index.Tensor", t.f(3, 2), [flags, None])
        yield call("index.Tensor", t.f(2, 3), [None, flags])


def _put(t: Tensors) -> Iterator[Call]:
    x = t.f(3, 4, 5)
    yield call("index_put.default", x, [t.of([0, -1])], t.f(4, 5))
    yield call("index_put.default", x, [None, t.of([0, -1]), t.of([1, 2])], t.of(2.5))
    yield call("index_put.default", x, [t.of([1, 1]), t.of([2, 2])], t.f(5), True)
    yield call("index_put.default", t.i(4), [t.of([1, 1, 2])], t.of([5, 6, 7]), True)
    one = t.of([[True, False, True, False], [False] * 4, [True, True, False, True]])
    flags = t.of([True, False, True])
    for accumulate in (False, True):
        yield call("index_put.default", x, [flags], t.of(2.5), accumulate)
        yield call("index_put.default", x, [flags], t.f(2, 4, 5), accumulate)
        yield call("index_put.default", x, [flags], t.f(1, 4, 5), accumulate)
        yield call("index_put.default", x, [flags], t.f(4, 5), accumulate)
        yield call("index_put.default", x, [one], t.f(5, 5), accumulate)
        yield call("index_put.default", x, [one], t.f(5), accumulate)
        yield call("index_put.default", x, [one], t.f(5, 1), accumulate)
        yield call("index_put.default", x, [None, one[0]], t.f(3, 2, 5), accumulate)
        yield call("index_put.default", x, [None, one[0]], t.f(3, 1, 5), accumulate)
        yield call("index_put.default", x, [None, one[0], None], t.f(2, 5), accumulate)
        yield call("index_put.default", x, [x > 0], t.of(-1.0), accumulate)
        yield call("index_put.default", x, [x > 0], t.f(int((x > 0).sum())), accumulate)
        yield call("index_put.default", t.f(2, 3), [None, flags], t.f(2, 2), accumulate)
    yield call("index_put.default", t.i(3), [flags], t.of([7, 8]))
    yield call("index_put.default", x, [t.of([False] * 3)], t.of(2.5))


def _scatters(t: Tensors) -> Iterator[Call]:
    x, source = t.f(3, 4), t.f(2, 4)
    indices = t.of([[0, 2, 1, 0], [1, 2, 2, 1]])
    apart = t.of([[0, 2, 1, 0], [1, 0, 2, 1]])
    yield call("gather.default", x, 0, indices)
    yield call("gather.default", x, -1, t.of([[3, 3], [0, 1]]))
    yield call("gather.default", x, 1, t.of([[3, 0, 1]]), sparse_grad=False)
    yield call("gather.default", t.f(), 0, t.of([0, 0]))
    yield call("gather.default", t.f(3), 0, t.of(2))
    yield call("scatter.src", x, 0, apart, t.f(3, 5))
    yield call("scatter.src", x, 1, t.of([[1, 0], [3, 2]]), source)
    yield call("scatter.value", x, -1, t.of([[1], [3]]), 2.5)
    yield call("scatter.value", t.i(3, 4), 1, t.of([[1], [3]]), 2)
    yield call("scatter.src", t.f(), 0, t.of(0), t.f())
    yield call("scatter.src", t.f(), 0, t.of([0]), t.f(3))
    yield call("scatter.src", t.f(3), 0, t.of(1), t.f())
    yield call("scatter.value", t.f(), 0, t.of([0]), 1.5)
    for reduce in ("add", "multiply"):
        yield call("scatter.reduce", x, 0, indices, source, reduce=reduce)
        yield call("scatter.value_reduce", x, 0, indices, 2.5, reduce=reduce)
        booleans = t.of([[True, False, True, False], [False] * 4, [True] * 4])
        yield call("scatter.reduce", booleans, 0, indices, t.b(2, 4), reduce=reduce)
    yield call("scatter_add.default", x, 0, indices, source)
    yield call("scatter_add.default", t.i(3, 4), 1, t.of([[1, 1]]), t.i(2, 3))
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for own in (True, False):
            yield call("scatter_reduce.two", x, 0, indices, source, reduce, include_self=own)
            yield call(
                *("scatter_reduce.two", t.i(3, 4), -1, t.of([[1, 1, 3]]), t.i(1, 3), reduce),
                include_self=own,
            )
    yield call("scatter_reduce.two", x, 0, indices, source, "sum")


def _sorts(t: Tensors) -> Iterator[Call]:
    inf, nan = float("inf"), float("nan")
    x = t.of([[2.0, -inf, nan, 0.0, 2.0, -1.0], [3.0, 3.0, -2.0, nan, nan, inf]])
    ties = t.i(3, 8, low=0, high=3)
    for descending in (False, True):
        for values in (x, ties, t.b(5), t.h(2, 6)):
            yield call("sort.stable", values, stable=True, dim=-1, descending=descending)
        yield call("sort.stable", ties, stable=True, dim=0, descending=descending)
        yield call("sort.default", t.f(3, 5), 0, descending)
    yield call("sort.default", t.f(3, 5))
    yield call("sort.default", t.f())
    yield call("sort.stable", t.f(2, 3, 4), stable=None)
    yield call("sort.default", t.f(2, 3, 4))
    yield call("topk.default", t.of([[[3.0, 1, 2], [6, 5, 4]]] * 3), 2)
    mixed = t.of([[5, 1, 4, 2, 3, 0], [-5, 9, -4, 8, 7, -6]])
    for values in (mixed, mixed.float() / 3, mixed.bfloat16()):
        yield call("topk.default", values, 3)
        yield call("topk.default", values, 2, 1, False)
        yield call("topk.default", values, 1, 0)
    yield call("topk.default", t.of([1.0, nan, 3.0, -inf]), 3, -1, True, True)
    yield call("topk.default", t.f(), 1)


def _searches(t: Tensors) -> Iterator[Call]:
    edges, x = t.of([-1.0, 0.0, 0.0, 2.0]), t.of([[-2.0, -1.0, 0.0], [1.0, 2.0, 3.0]])
    for right in (False, True):
        yield call("bucketize.Tensor", x, edges, right=right, out_int32=right)
        yield call("bucketize.Tensor", t.i(2, 3), edges, right=right)
        yield call("bucketize.Scalar", 0, edges, right=right)
        yield call("bucketize.Scalar", 0.5, t.of([0, 1]), right=right)
        yield call("searchsorted.Tensor", edges, x, right=right, out_int32=right)
        yield call("searchsorted.Tensor", x, x[:, :2] + 1, right=right)
    yield call("bucketize.Tensor", x, edges)
    yield call("searchsorted.Tensor", edges, x)
    for side in ("left", "right"):
        yield call("searchsorted.Tensor", edges, x, side=side)
    order = t.of([2, 0, 3, 1])
    mixed = edges[t.of([1, 3, 0, 2])]
    yield call("searchsorted.Tensor", mixed, x, sorter=order)
    yield call("searchsorted.Tensor", t.of([1, 3]), t.of([2, 3]))


def refused_cases(t: Tensors) -> Iterator[Call]:
    """Calls that combine a mask with another index: no program knows how many elements the mask selects."""
    flags = t.of([True, False, True])
    yield call("index.Tensor", t.f(3, 4), [flags, t.of([0, 1])])
    yield call("index.Tensor", t.f(4, 3), [t.of([0, 1]), flags])
    yield call("index_put.default", t.f(3, 4), [flags, t.of([0, 1])], t.of(2.5))
    yield call("index_put.default", t.f(4, 3), [t.of([0, 1]), flags], t.of(2.5))
    yield call("index_put.default", t.f(4, 2, 3), [t.of([0, 1]), None, flags], t.of(2.5))
    yield call("repeat_interleave.Tensor", t.of([2, 0, 3]))


def open_cases(t: Tensors) -> Iterator[Call]:
    x, indices = t.f(11, 3), t.of([[0, 6, 2], [1, 1, 3]])
    yield call("embedding.default", t.f(4, 3), t.of([0, 1, 2, 3, 3, 2, 1]))
    yield call("index_select.default", x, 0, t.of([10, 0, 4]))
    yield call("index.Tensor", x, [t.of([0, -1, 2])])
    yield call("index_put.default", x, [t.of([0, -1])], t.of(2.5), True)
    yield call("index_put.default", x, [x > 0], t.of(2.5))
    yield call("gather.default", x, 0, indices)
    yield call("scatter.src", x, 0, indices[:1], t.f(11, 3))
    yield call("masked_scatter.default", x, x > 0, t.f(11, 3))
    yield call("topk.default", t.f(3, 11), 2)
    yield call("topk.default", t.f(11), Size.of("n-2"))
    yield call("sort.default", t.f(3, 11), 1, True)
    yield call("searchsorted.Tensor", t.f(3, 11).sort().values, t.f(3, 2))
    yield call("bucketize.Tensor", x, t.f(4).sort().values)
    yield call("repeat_interleave.Tensor", t.of([2, 0, 5]), output_size=Size.of("m"))
