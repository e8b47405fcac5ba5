"""Operations between the tensors of two layouts; each knows its output shapes and its inverse.

An operation maps a tuple of arrays to a tuple of arrays. ``shapes`` returns the output shapes for input shapes and
raises ``ValueError`` if the operation does not fit. Nothing is reshaped merely because the sizes happen to fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from equipoise.convert.core.arrays import Array, ArrayModule, Shape, check_fits


class Op(Protocol):
    """An operation on tensors."""

    @property
    def inverse(self) -> Op:
        """The operation that undoes it."""

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns output shapes for input shapes."""

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns output arrays for input arrays; may return views.

        Args:
            arrays: The input arrays.
            xp: The module of their functions: numpy, or jax.numpy for values of a JAX program.
        """


@dataclass(frozen=True)
class Permute:
    """Reorders the axes: axis ``i`` of the result is axis ``axes[i]`` of the operand."""

    axes: tuple[int, ...]

    @property
    def inverse(self) -> Permute:
        """The permutation that undoes it."""
        return Permute(tuple(self.axes.index(axis) for axis in range(len(self.axes))))

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns permuted shapes; each operand must have as many axes as the permutation."""
        for shape in shapes:
            check_fits(len(shape) == len(self.axes), f"{len(self.axes)} axes", shape)
        return tuple(tuple(shape[axis] for axis in self.axes) for shape in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operands."""
        return tuple(array.transpose(self.axes) for array in arrays)


@dataclass(frozen=True)
class AddAxis:
    """Inserts an axis of size 1 at ``axis``."""

    axis: int

    @property
    def inverse(self) -> DropAxis:
        """The operation that removes the axis."""
        return DropAxis(self.axis)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with one more axis."""
        return tuple((*shape[: self.axis], 1, *shape[self.axis :]) for shape in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operands."""
        return tuple(xp.expand_dims(array, self.axis) for array in arrays)


@dataclass(frozen=True)
class DropAxis:
    """Removes an axis that must have size 1."""

    axis: int

    @property
    def inverse(self) -> AddAxis:
        """The operation that inserts the axis."""
        return AddAxis(self.axis)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with one axis less."""
        for shape in shapes:
            fits = len(shape) > self.axis and shape[self.axis] == 1
            check_fits(fits, f"size 1 at axis {self.axis}", shape)
        return tuple((*shape[: self.axis], *shape[self.axis + 1 :]) for shape in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operands."""
        return tuple(xp.squeeze(array, self.axis) for array in arrays)


@dataclass(frozen=True)
class SplitAxis:
    """Splits an axis into several of these sizes: heads times width becomes heads, width."""

    axis: int
    sizes: tuple[int, ...]

    @property
    def inverse(self) -> MergeAxes:
        """The operation that merges the axes again."""
        return MergeAxes(self.axis, self.sizes)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with the new axes; the product of the sizes must be the axis's."""
        whole = math.prod(self.sizes)
        for shape in shapes:
            found = shape[self.axis] if len(shape) > self.axis else -1
            check_fits(found == whole, f"size {whole} at axis {self.axis}", shape)
        return tuple((*one[: self.axis], *self.sizes, *one[self.axis + 1 :]) for one in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns the operands with the new axes; views where the memory order allows it."""
        new = self.shapes(tuple(array.shape for array in arrays))
        return tuple(xp.reshape(array, shape) for array, shape in zip(arrays, new, strict=True))


@dataclass(frozen=True)
class MergeAxes:
    """Merges neighbouring axes of these sizes, from ``axis`` on, into one."""

    axis: int
    sizes: tuple[int, ...]

    @property
    def inverse(self) -> SplitAxis:
        """The operation that splits the axis again."""
        return SplitAxis(self.axis, self.sizes)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with one axis for several; the axes must have the sizes."""
        end = self.axis + len(self.sizes)
        for shape in shapes:
            check_fits(
                shape[self.axis : end] == self.sizes, f"{self.sizes} from axis {self.axis}", shape
            )
        return tuple((*one[: self.axis], math.prod(self.sizes), *one[end:]) for one in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns the operands with fewer axes; views where the memory order allows it."""
        new = self.shapes(tuple(array.shape for array in arrays))
        return tuple(xp.reshape(array, shape) for array, shape in zip(arrays, new, strict=True))


@dataclass(frozen=True)
class Concat:
    """Concatenates the operands along an axis, on which they must have these sizes."""

    axis: int
    sizes: tuple[int, ...]

    @property
    def inverse(self) -> Split:
        """The operation that splits them again."""
        return Split(self.axis, self.sizes)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the joint shape; the operands may differ along the axis only."""
        found = tuple(shape[self.axis] if len(shape) > self.axis else -1 for shape in shapes)
        check_fits(found == self.sizes, f"sizes {self.sizes} at axis {self.axis}", shapes)
        rests = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in shapes}
        check_fits(len(rests) == 1, "equal sizes at the other axes", shapes)
        first = shapes[0]
        return ((*first[: self.axis], sum(self.sizes), *first[self.axis + 1 :]),)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns one new array."""
        return (xp.concatenate(arrays, self.axis),)


@dataclass(frozen=True)
class Split:
    """Splits one operand into pieces of these sizes along an axis."""

    axis: int
    sizes: tuple[int, ...]

    @property
    def inverse(self) -> Concat:
        """The operation that concatenates the pieces again."""
        return Concat(self.axis, self.sizes)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns one shape for each piece; the sizes must add up."""
        check_fits(len(shapes) == 1, "one tensor", shapes)
        shape = shapes[0]
        fits = len(shape) > self.axis and shape[self.axis] == sum(self.sizes)
        check_fits(fits, f"size {sum(self.sizes)} at axis {self.axis}", shape)
        return tuple((*shape[: self.axis], size, *shape[self.axis + 1 :]) for size in self.sizes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operand."""
        return tuple(xp.split(arrays[0], np.cumsum(self.sizes)[:-1].tolist(), self.axis))


@dataclass(frozen=True)
class Stack:
    """Stacks ``count`` operands of one shape along a new axis."""

    axis: int
    count: int

    @property
    def inverse(self) -> Unstack:
        """The operation that unstacks them again."""
        return Unstack(self.axis, self.count)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the stacked shape; all operands must have one shape."""
        check_fits(len(shapes) == self.count, f"{self.count} tensors", shapes)
        check_fits(len(set(shapes)) == 1, "equal shapes", shapes)
        return ((*shapes[0][: self.axis], self.count, *shapes[0][self.axis :]),)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns one new array."""
        return (xp.stack(arrays, self.axis),)


@dataclass(frozen=True)
class Unstack:
    """Unstacks one operand along an axis of size ``count``."""

    axis: int
    count: int

    @property
    def inverse(self) -> Stack:
        """The operation that stacks the pieces again."""
        return Stack(self.axis, self.count)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns one shape for each piece; the axis must have the stated size."""
        check_fits(len(shapes) == 1, "one tensor", shapes)
        shape = shapes[0]
        fits = len(shape) > self.axis and shape[self.axis] == self.count
        check_fits(fits, f"size {self.count} at axis {self.axis}", shape)
        return ((*shape[: self.axis], *shape[self.axis + 1 :]),) * self.count

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operand."""
        places: list[tuple[slice | int, ...]] = [
            (*[slice(None)] * self.axis, index) for index in range(self.count)
        ]
        return tuple(arrays[0][place] for place in places)


@dataclass(frozen=True)
class Pad:
    """Adds ``count`` rows of zeros at an end of an axis, e.g. tokens that a vocabulary is filled up with.

    Attributes:
        axis: The axis.
        count: How many rows.
        first: Whether they come before the others.
    """

    axis: int
    count: int
    first: bool = False

    @property
    def inverse(self) -> Unpad:
        """The operation that removes the rows."""
        return Unpad(self.axis, self.count, self.first)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with a longer axis."""
        for shape in shapes:
            check_fits(len(shape) > self.axis, f"an axis {self.axis}", shape)
        return tuple(_resized(shape, self.axis, self.count) for shape in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns new arrays."""
        ends = (self.count, 0) if self.first else (0, self.count)
        return tuple(
            xp.pad(one, [ends if axis == self.axis else (0, 0) for axis in range(one.ndim)])
            for one in arrays
        )


@dataclass(frozen=True)
class Unpad:
    """Removes ``count`` rows at an end of an axis, whatever they hold: it undoes :class:`Pad`, and not the other way round."""

    axis: int
    count: int
    first: bool = False

    @property
    def inverse(self) -> Pad:
        """The operation that adds rows of zeros."""
        return Pad(self.axis, self.count, self.first)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with a shorter axis, which must have so many rows."""
        for shape in shapes:
            fits = len(shape) > self.axis and shape[self.axis] >= self.count
            check_fits(fits, f"at least {self.count} rows at axis {self.axis}", shape)
        return tuple(_resized(shape, self.axis, -self.count) for shape in shapes)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operands."""
        ends = [slice(None)] * self.axis
        return tuple(one[(*ends, self._kept(one.shape[self.axis]))] for one in arrays)

    def _kept(self, size: int) -> slice:
        return slice(self.count, None) if self.first else slice(size - self.count)


def _resized(shape: Shape, axis: int, count: int) -> Shape:
    return (*shape[:axis], shape[axis] + count, *shape[axis + 1 :])


@dataclass(frozen=True)
class At:
    """Applies an operation of one operand to the operand at a position, and leaves the others."""

    position: int
    op: Op

    @property
    def inverse(self) -> At:
        """The operation that undoes it there."""
        return At(self.position, self.op.inverse)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the shapes with that at the position changed."""
        check_fits(len(shapes) > self.position, f"more than {self.position} tensors", shapes)
        (shape,) = self.op.shapes((shapes[self.position],))
        return (*shapes[: self.position], shape, *shapes[self.position + 1 :])

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns the operands with that at the position changed."""
        (array,) = self.op.apply((arrays[self.position],), xp)
        return (*arrays[: self.position], array, *arrays[self.position + 1 :])


def simplify(ops: Sequence[Op]) -> tuple[Op, ...]:
    """Merges neighbouring permutations and removes neighbours that undo each other.

    >>> simplify([Permute((1, 0)), Permute((1, 0))])
    ()
    """
    merged: list[Op] = []
    for op in ops:
        last = merged[-1] if merged else None
        if isinstance(op, Permute) and isinstance(last, Permute):
            merged.pop()
            op = Permute(tuple(last.axes[axis] for axis in op.axes))
        elif last is not None and last.inverse == op:
            merged.pop()
            continue
        if isinstance(op, Permute) and op.axes == tuple(range(len(op.axes))):
            continue
        if isinstance(op, Pad | Unpad) and op.count == 0:
            continue
        merged.append(op)
    return tuple(merged)


def apply_all(
    ops: Sequence[Op], arrays: tuple[Array, ...], xp: ArrayModule = np
) -> tuple[Array, ...]:
    """Applies the operations in order."""
    for op in ops:
        arrays = op.apply(arrays, xp)
    return arrays


def output_shapes(ops: Sequence[Op], shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """Returns the shapes after all operations.

    Raises:
        ValueError: An operation does not fit.
    """
    for op in ops:
        shapes = op.shapes(shapes)
    return shapes
