"""Example inputs of an export and their dynamic axes, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

FEATURE_INPUT_PREFIXES = ("pixel_values", "hidden_states")
"""Prefixes of inputs whose last axis holds features although they have two axes: image patches."""


@dataclass(frozen=True)
class ExampleInputs:
    """The inputs that a program is exported with.

    Attributes:
        arrays: One example of each input.
        axes: The dynamic axes of each input and their names in the program.
        kwargs: Further keyword arguments of the model's forward.
        caches: Whether the task uses a KV cache and the model has one.
    """

    arrays: Mapping[str, Array]
    axes: Mapping[str, Mapping[int, str]]
    kwargs: Mapping[str, Any]
    caches: bool = False

    def shape(self, name: str) -> list[int | str]:
        """Returns the dimensions of an input, with names for dynamic axes.

        >>> import numpy as np
        >>> inputs = ExampleInputs({"x": np.zeros((2, 7, 3))}, {"x": {0: "batch_size"}}, {})
        >>> inputs.shape("x")
        ['batch_size', 7, 3]
        """
        return [
            self.axes[name].get(axis, size) for axis, size in enumerate(self.arrays[name].shape)
        ]

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the dynamic axes by their names."""
        return {
            symbol: self.arrays[name].shape[axis]
            for name, axes in self.axes.items()
            for axis, symbol in axes.items()
        }


def varying_axes(examples: Sequence[Mapping[str, Array]]) -> dict[str, dict[int, str]]:
    """Returns the dynamic axes: the batch, the length of inputs with two axes, and axes that differ between examples.

    >>> import numpy as np
    >>> tokens = [{"input_ids": np.zeros((2, 7), int), "pixel_values": np.zeros((2, 3, 8, 8))}]
    >>> varying_axes(tokens)
    {'input_ids': {0: 'batch_size', 1: 'sequence_length'}, 'pixel_values': {0: 'batch_size'}}
    >>> labels = [{"input_ids": np.zeros((5, 7), int), "pixel_values": np.zeros((2, 3, 8, 8))}]
    >>> varying_axes(labels)["pixel_values"]
    {0: 'pixel_values_batch_size'}
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
    """Gives axes of unequal size different names: CLIP's images and its candidate texts are two batches."""
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
    """Checks whether two axes have the same size in every example that has both."""
    return all(
        example[one[0]].shape[one[1]] == example[other[0]].shape[other[1]]
        for example in examples
        if one[0] in example and other[0] in example
    )


def _axis_name(name: str, axis: int, rank: int, kind: str) -> str:
    """Returns the name of an axis; inputs that share the axis get the same name."""
    if axis == 0:
        return "batch_size"
    if rank == 4 and name.startswith("pixel") and axis in (2, 3):
        return ("height", "width")[axis - 2]
    if name.startswith("decoder_"):
        return "decoder_sequence_length" if axis == 1 else f"{name}_{axis}"
    if (
        axis == 1
        and kind in "iub"
        and name.split("_")[0] in ("input", "attention", "token", "position")
    ):
        return "sequence_length"
    return f"{name}_{axis}"
