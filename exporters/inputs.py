"""A program's inputs as plain data: example arrays, and which of their axes vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """What a program is made with.

    Attributes:
        arrays: One example of each input.
        axes: For each input the axes that vary, and what the program calls them.
        kwargs: Plain values that the model's forward gets beside them.
    """

    arrays: Mapping[str, Array]
    axes: Mapping[str, Mapping[int, str]]
    kwargs: Mapping[str, Any]

    def shape(self, name: str) -> list[int | str]:
        """The dimensions of an input, names for those that vary.

        >>> inputs = Inputs({"x": np.zeros((2, 7, 3))}, {"x": {0: "batch"}}, {})
        >>> inputs.shape("x")
        ['batch', 7, 3]
        """
        return [
            self.axes[name].get(axis, size) for axis, size in enumerate(self.arrays[name].shape)
        ]


def varying_axes(examples: Sequence[Mapping[str, Array]]) -> dict[str, dict[int, str]]:
    """The axes that vary: the batch, the length of what has two axes, and what differs between the examples.

    >>> tokens = [{"input_ids": np.zeros((2, 7), int), "pixel_values": np.zeros((2, 3, 8, 8))}]
    >>> varying_axes(tokens)
    {'input_ids': {0: 'batch', 1: 'sequence'}, 'pixel_values': {0: 'batch'}}
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}
    kinds: dict[str, str] = {}
    for example in examples:
        for name, value in example.items():
            shapes.setdefault(name, []).append(value.shape)
            kinds[name] = value.dtype.kind
    found: dict[str, dict[int, str]] = {}
    for name, known in shapes.items():
        rank = len(known[0])
        same_rank = [shape for shape in known if len(shape) == rank]
        wanted = {0} if rank else set()
        wanted |= {1} if rank == 2 else set()
        wanted |= {axis for axis in range(rank) if len({shape[axis] for shape in same_rank}) > 1}
        found[name] = {axis: _axis_name(name, axis, rank, kinds[name]) for axis in sorted(wanted)}
    return found


def _axis_name(name: str, axis: int, rank: int, kind: str) -> str:
    """A symbol for an axis; inputs that always have it in common share the symbol."""
    if axis == 0:
        return "batch"
    if rank == 4 and name.startswith("pixel") and axis in (2, 3):
        return ("height", "width")[axis - 2]
    if name.startswith("decoder_"):
        return "decoder_sequence" if axis == 1 else f"{name}_{axis}"
    if (
        axis == 1
        and kind in "iub"
        and name.split("_")[0] in ("input", "attention", "token", "position")
    ):
        return "sequence"
    return f"{name}_{axis}"


def fixed(
    arrays: Mapping[str, Array],
    axes: Mapping[str, Mapping[int, str]],
    sizes: Mapping[str, int],
) -> tuple[dict[str, Array], dict[str, dict[int, str]]]:
    """The example with some dimensions at a stated size, which then no longer vary.

    >>> arrays, axes = fixed({"x": np.array([[1, 2], [3, 4]])}, {"x": {0: "batch", 1: "sequence"}}, {"batch": 3})
    >>> arrays["x"].tolist(), axes
    ([[1, 2], [3, 4], [1, 2]], {'x': {1: 'sequence'}})
    """
    made: dict[str, Array] = {}
    left: dict[str, dict[int, str]] = {}
    for name, value in arrays.items():
        left[name] = {}
        for axis, symbol in axes[name].items():
            if symbol in sizes:
                value = np.take(value, np.arange(sizes[symbol]) % value.shape[axis], axis=axis)
            else:
                left[name][axis] = symbol
        made[name] = value
    return made, left
