"""Operations for layouts that store two tensors as their sum, or one tensor twice; see :mod:`equipoise.convert.core.ops`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, ArrayModule, Shape, check_fits


@dataclass(frozen=True)
class AddRow:
    """Adds the only row of a second operand to every row of the first, e.g. the segment that all tokens have to their positions."""

    width: int

    @property
    def inverse(self) -> SubtractNothing:
        """The operation that takes the sum for the rows and zeros for what was added."""
        return SubtractNothing(self.width)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the shape of the first operand; both must have rows of the width."""
        check_fits(len(shapes) == 2, "two tensors", shapes)
        rows, row = shapes
        fits = len(rows) == 2 and rows[1] == self.width and row == (1, self.width)
        check_fits(fits, f"rows of {self.width} and one such row", shapes)
        return (rows,)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns a new array."""
        return (arrays[0] + arrays[1],)


@dataclass(frozen=True)
class SubtractNothing:
    """Takes an operand for a sum with a row of zeros: the rows, and that row. It undoes :class:`AddRow` up to where the parts lie."""

    width: int

    @property
    def inverse(self) -> AddRow:
        """The operation that adds the row."""
        return AddRow(self.width)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the shape and that of one row."""
        check_fits(len(shapes) == 1, "one tensor", shapes)
        (shape,) = shapes
        check_fits(len(shape) == 2 and shape[1] == self.width, f"rows of {self.width}", shape)
        return (shape, (1, self.width))

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns the operand and a new array of zeros."""
        return (arrays[0], xp.zeros((1, self.width), arrays[0].dtype))


@dataclass(frozen=True)
class Copy:
    """Gives ``count`` copies of one operand, for a layout that stores a tensor under several names."""

    count: int

    @property
    def inverse(self) -> TakeFirst:
        """The operation that takes the first copy."""
        return TakeFirst(self.count)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the shape so many times."""
        check_fits(len(shapes) == 1, "one tensor", shapes)
        return shapes * self.count

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns the operand itself, so many times."""
        return arrays * self.count


@dataclass(frozen=True)
class TakeFirst:
    """Takes the first of ``count`` operands of one shape: it undoes :class:`Copy`."""

    count: int

    @property
    def inverse(self) -> Copy:
        """The operation that copies it again."""
        return Copy(self.count)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns the first shape; all must be equal."""
        check_fits(len(shapes) == self.count, f"{self.count} tensors", shapes)
        check_fits(len(set(shapes)) == 1, "equal shapes", shapes)
        return shapes[:1]

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns the first operand."""
        return arrays[:1]


@dataclass(frozen=True)
class Tile:
    """Repeats the ``count`` rows of an axis until there are ``size``, e.g. positions of a small image over a larger one."""

    axis: int
    count: int
    size: int

    @property
    def inverse(self) -> TakeTile:
        """The operation that takes the first rows."""
        return TakeTile(self.axis, self.count, self.size)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with ``size`` rows, which must not be fewer than there are."""
        check_fits(0 < self.count <= self.size, f"1 to {self.size} rows", (self.count,))
        return _replaced_rows(shapes, self.axis, self.count, self.size)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns new arrays."""
        repeats = -(-self.size // self.count)
        repeated = (xp.concatenate([one] * repeats, axis=self.axis) for one in arrays)
        return tuple(_first_rows(one, self.axis, self.size) for one in repeated)


@dataclass(frozen=True)
class TakeTile:
    """Takes the first ``count`` of ``size`` rows: it undoes :class:`Tile`."""

    axis: int
    count: int
    size: int

    @property
    def inverse(self) -> Tile:
        """The operation that repeats them again."""
        return Tile(self.axis, self.count, self.size)

    def shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Returns shapes with ``count`` rows."""
        return _replaced_rows(shapes, self.axis, self.size, self.count)

    def apply(self, arrays: tuple[Array, ...], xp: ArrayModule = np) -> tuple[Array, ...]:
        """Returns views of the operands."""
        return tuple(_first_rows(one, self.axis, self.count) for one in arrays)


def _replaced_rows(shapes: tuple[Shape, ...], axis: int, old: int, new: int) -> tuple[Shape, ...]:
    for shape in shapes:
        check_fits(len(shape) > axis and shape[axis] == old, f"{old} rows at axis {axis}", shape)
    return tuple((*shape[:axis], new, *shape[axis + 1 :]) for shape in shapes)


def _first_rows(array: Array, axis: int, count: int) -> Array:
    return np.asarray(array[(*[slice(None)] * axis, slice(count))])
