"""A program's inputs as plain data: example arrays, and which of their axes vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

FEATURE_INPUT_PREFIXES = ("pixel_values", "hidden_states")
"""Beginnings of the names of inputs whose last axis holds features, though they have two axes: patches of pictures."""


@dataclass(frozen=True)
class ExampleInputs:
    """What a program is made with.

    Attributes:
        arrays: One example of each input.
        axes: For each input the axes that vary, and what the program calls them.
        kwargs: Plain values that the model's forward gets beside them.
        caches: Whether the task goes on with a cache, and the model keeps one.
    """

    arrays: Mapping[str, Array]
    axes: Mapping[str, Mapping[int, str]]
    kwargs: Mapping[str, Any]
    caches: bool = False

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
    >>> labels = [{"input_ids": np.zeros((5, 7), int), "pixel_values": np.zeros((2, 3, 8, 8))}]
    >>> varying_axes(labels)["pixel_values"]
    {0: 'pixel_values_batch'}
    """
    names = list(dict.fromkeys(name for example in examples for name in example))
    found: dict[str, dict[int, str]] = {}
    for name in names:
        values = [example[name] for example in examples if name in example]
        rank = values[0].ndim
        known = [value.shape for value in values if value.ndim == rank]
        wanted = {axis for axis in range(rank) if len({shape[axis] for shape in known}) > 1}
        wanted |= (
            {0, 1}
            if rank == 2 and not name.startswith(FEATURE_INPUT_PREFIXES)
            else {0}
            if rank
            else set()
        )
        kind = values[0].dtype.kind
        found[name] = {axis: _axis_name(name, axis, rank, kind) for axis in sorted(wanted)}
    return _split_unequal_axes(found, examples)


def _split_unequal_axes(
    axes: dict[str, dict[int, str]], examples: Sequence[Mapping[str, Array]]
) -> dict[str, dict[int, str]]:
    """One symbol means one size: pictures and the texts to choose from need not be equally many."""
    known: dict[str, list[tuple[str, int, str]]] = {}
    for name, mine in axes.items():
        for axis, symbol in mine.items():
            groups = known.setdefault(symbol, [])
            like = [
                final
                for other, at, final in groups
                if _always_equal(examples, (name, axis), (other, at))
            ]
            mine[axis] = like[0] if like else f"{name}_{symbol}" if groups else symbol
            groups.append((name, axis, mine[axis]))
    return axes


def _always_equal(
    examples: Sequence[Mapping[str, Array]], one: tuple[str, int], other: tuple[str, int]
) -> bool:
    """Whether two axes have the same size wherever both are."""
    return all(
        example[one[0]].shape[one[1]] == example[other[0]].shape[other[1]]
        for example in examples
        if one[0] in example and other[0] in example
    )


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
