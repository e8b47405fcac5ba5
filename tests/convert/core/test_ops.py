from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.convert.core.ops import (
    AddAxis,
    At,
    Concat,
    DropAxis,
    MergeAxes,
    Op,
    Pad,
    Permute,
    Split,
    SplitAxis,
    Stack,
    Unpad,
    Unstack,
    apply_all,
    output_shapes,
    simplify,
)
from equipoise.convert.core.row_ops import (
    AddRow,
    Copy,
    SubtractNothing,
    TakeFirst,
    TakeTile,
    Tile,
)

CUBE = np.arange(2 * 3 * 5).reshape(2, 3, 5)


def test_permute_names_the_source_axis_of_each_result_axis() -> None:
    (result,) = Permute((2, 0, 1)).apply((CUBE,))
    assert result.shape == (5, 2, 3)
    assert result[4, 1, 2] == CUBE[1, 2, 4]


def test_concat_and_stack_values() -> None:
    first, second = np.array([[1, 2]]), np.array([[3, 4], [5, 6]])
    (joined,) = Concat(0, (1, 2)).apply((first, second))
    assert joined.tolist() == [[1, 2], [3, 4], [5, 6]]
    (stacked,) = Stack(1, 2).apply((first, first + 2))
    assert stacked.tolist() == [[[1, 2], [3, 4]]]


CASES: list[tuple[Op, tuple[Any, ...]]] = [
    (Permute((2, 0, 1)), (CUBE,)),
    (AddAxis(1), (CUBE,)),
    (DropAxis(0), (CUBE[None],)),
    (Concat(1, (3, 3)), (CUBE, CUBE + 1)),
    (Split(2, (1, 4)), (CUBE,)),
    (SplitAxis(2, (5, 1)), (CUBE, CUBE + 1)),
    (MergeAxes(0, (2, 3)), (CUBE,)),
    (Stack(0, 2), (CUBE, CUBE + 1)),
    (Unstack(1, 3), (CUBE,)),
    (SplitAxis(1, (3, 1)), (CUBE,)),
    (MergeAxes(1, (3, 5)), (CUBE,)),
    (At(1, DropAxis(0)), (CUBE, CUBE[:1], CUBE)),
    (Pad(1, 2), (CUBE,)),
    (Unpad(1, 2), (np.pad(CUBE, [(0, 0), (0, 2), (0, 0)]),)),
    (Pad(2, 2, first=True), (CUBE,)),
    (Unpad(1, 2, first=True), (np.pad(CUBE, [(0, 0), (2, 0), (0, 0)]),)),
    (AddRow(5), (CUBE[0], np.zeros((1, 5), CUBE.dtype))),
    (SubtractNothing(5), (CUBE[0],)),
    (Copy(3), (CUBE,)),
    (TakeFirst(2), (CUBE, CUBE)),
    (Tile(2, 5, 13), (CUBE,)),
    (TakeTile(0, 2, 5), (np.concatenate([CUBE, CUBE, CUBE[:1]]),)),
]


@pytest.mark.parametrize(("op", "arrays"), CASES, ids=lambda value: type(value).__name__)
def test_inverse_and_shapes(op: Op, arrays: tuple[Any, ...]) -> None:
    results = op.apply(arrays)
    assert tuple(one.shape for one in results) == op.shapes(tuple(one.shape for one in arrays))
    back = op.inverse.apply(results)
    for original, found in zip(arrays, back, strict=True):
        np.testing.assert_array_equal(original, found)
    assert op.inverse.inverse == op


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        (Permute((1, 0)), ((2, 3, 4),)),
        (DropAxis(0), ((2, 3),)),
        (DropAxis(2), ((1, 1),)),
        (Concat(0, (2, 3)), ((2, 4), (4, 4))),
        (Concat(0, (2, 3)), ((2, 4), (3, 5))),
        (Split(0, (2, 3)), ((6, 4),)),
        (SplitAxis(0, (2, 3)), ((5, 4),)),
        (SplitAxis(2, (2, 3)), ((6, 4),)),
        (MergeAxes(0, (2, 3)), ((3, 2),)),
        (MergeAxes(1, (2, 3)), ((2, 2),)),
        (Stack(0, 2), ((2, 4), (4, 2))),
        (Stack(0, 3), ((2, 4), (2, 4))),
        (Unstack(0, 3), ((2, 4),)),
        (SplitAxis(1, (2, 2)), ((4,),)),
        (MergeAxes(1, (2, 3)), ((4, 2),)),
        (At(1, DropAxis(0)), ((1, 2),)),
        (Pad(2, 1), ((1, 2),)),
        (Unpad(0, 3), ((2, 4),)),
        (At(1, DropAxis(0)), ((1, 2), (2, 2))),
        (AddRow(3), ((4, 3), (2, 3))),
        (AddRow(3), ((4, 3),)),
        (SubtractNothing(3), ((4, 2),)),
        (Copy(2), ((2,), (2,))),
        (TakeFirst(2), ((2,), (3,))),
        (Tile(0, 3, 2), ((3,),)),
        (Tile(0, 2, 4), ((3,),)),
        (TakeTile(1, 2, 4), ((4, 3),)),
    ],
)
def test_mismatches_are_refused(op: Op, shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        op.shapes(shapes)


def test_rows_are_repeated_in_order() -> None:
    (result,) = Tile(0, 2, 5).apply((np.array([[1], [2]]),))
    assert result.ravel().tolist() == [1, 2, 1, 2, 1]


def test_the_last_of_split_axes_varies_fastest() -> None:
    (result,) = SplitAxis(0, (2, 3)).apply((np.arange(6),))
    assert result.tolist() == [[0, 1, 2], [3, 4, 5]]
    (back,) = MergeAxes(0, (2, 3)).apply((result,))
    assert back.tolist() == list(range(6))


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.data(),
)
def test_split_axes_come_back(outer: list[int], sizes: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(outer)))
    shape = (*outer[:axis], int(np.prod(sizes)), *outer[axis:])
    values = np.arange(np.prod(shape)).reshape(shape)
    op = SplitAxis(axis, tuple(sizes))
    (split,) = op.apply((values,))
    assert op.shapes((shape,)) == (split.shape,)
    assert op.inverse.shapes((split.shape,)) == (shape,)
    np.testing.assert_array_equal(op.inverse.apply((split,))[0], values)
    place = [data.draw(st.integers(0, size - 1)) for size in split.shape]
    inside = np.ravel_multi_index(place[axis : axis + len(sizes)], sizes)
    assert split[tuple(place)] == values[(*place[:axis], inside, *place[axis + len(sizes) :])]


def test_rows_go_at_the_end_that_is_named() -> None:
    rows = np.arange(6).reshape(3, 2) + 1
    assert Unpad(0, 2, first=True).apply((rows,))[0].tolist() == [[5, 6]]
    assert Unpad(0, 2).apply((rows,))[0].tolist() == [[1, 2]]
    assert Pad(0, 1, first=True).apply((rows[:1],))[0].tolist() == [[0, 0], [1, 2]]
    assert AddRow(2).apply((rows, np.array([[10, 20]])))[0].tolist() == [
        [11, 22],
        [13, 24],
        [15, 26],
    ]
    first, added = SubtractNothing(2).apply((rows,))
    assert (first.tolist(), added.tolist()) == (rows.tolist(), [[0, 0]])


def test_no_padding_is_no_operation() -> None:
    assert simplify([Pad(0, 0), Permute((1, 0)), Unpad(1, 0)]) == (Permute((1, 0)),)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 1))
def test_axes_are_split_in_c_order(sizes: list[int], other: int, axis: int) -> None:
    """Heads come first: element ``head * width + i`` becomes ``[head, i]``."""
    whole = int(np.prod(sizes))
    shape = (whole, other) if axis == 0 else (other, whole)
    array = np.arange(whole * other).reshape(shape)
    split = SplitAxis(axis, tuple(sizes))
    (found,) = split.apply((array,))
    for place in np.ndindex(*sizes):
        flat = int(np.ravel_multi_index(place, sizes))
        expected = array[flat] if axis == 0 else array[:, flat]
        np.testing.assert_array_equal(found[place] if axis == 0 else found[:, *place], expected)
    np.testing.assert_array_equal(split.inverse.apply((found,))[0], array)
    assert simplify([split, split.inverse]) == ()


@given(st.lists(st.permutations(range(3)), max_size=5))
def test_simplified_permutations_do_the_same(axes: list[list[int]]) -> None:
    ops = [Permute(tuple(one)) for one in axes]
    merged = simplify(ops)
    assert len(merged) <= 1
    np.testing.assert_array_equal(apply_all(ops, (CUBE,))[0], apply_all(merged, (CUBE,))[0])
    assert output_shapes(ops, (CUBE.shape,)) == output_shapes(merged, (CUBE.shape,))


def test_inverse_operations_cancel() -> None:
    assert simplify([AddAxis(0), DropAxis(0), Permute((0, 1))]) == ()
    assert simplify([Split(0, (1, 2)), Concat(0, (1, 2))]) == ()
    assert simplify([AddAxis(0), DropAxis(1)]) == (AddAxis(0), DropAxis(1))
