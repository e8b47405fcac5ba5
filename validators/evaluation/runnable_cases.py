"""Chooses the cases that a backend can run: with the cache that it keeps, at the sizes that its program takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise.exporters.artifact import find_manifest
from equipoise.validators.core.types import Batch
from equipoise.validators.evaluation.context import ReferenceOutputs

Shapes = Mapping[str, Sequence[object]]
"""Input -> the sizes of its axes: integers where the program has one size, names where it takes any."""


def choose_runnable(
    measured: Sequence[ReferenceOutputs], path: Path, *, caches: bool
) -> tuple[list[ReferenceOutputs], tuple[str, ...]]:
    """Returns the cases that a backend can run, and a note for each reason why it cannot run others.

    Args:
        measured: All cases.
        path: What the backend loads.
        caches: Whether it keeps a cache.
    """
    shapes = read_shapes(path)
    runnable: list[ReferenceOutputs] = []
    without_cache: list[str] = []
    of_other_size: list[str] = []
    for one in measured:
        if one.batch.case.options.get("cache") and not caches:
            without_cache.append(one.batch.case.name)
        elif not takes_batch(shapes, one.batch):
            of_other_size.append(one.batch.case.name)
        else:
            runnable.append(one)
    notes = []
    if without_cache:
        notes.append(f"it keeps no cache, so these cases were not run: {', '.join(without_cache)}")
    if of_other_size:
        sizes = "; ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        notes.append(
            f"its program takes {sizes}, so these cases were not run: {', '.join(of_other_size)}"
        )
    return runnable, tuple(notes)


def read_shapes(path: Path) -> Shapes:
    """Returns the input shapes that ``artifact.json`` states for a program; empty without that file."""
    inputs = find_manifest(path).get("inputs", {})
    return {
        name: one["shape"] for name, one in inputs.items() if isinstance(one.get("shape"), list)
    }


def takes_batch(shapes: Shapes, batch: Batch) -> bool:
    """Returns whether a program takes the arrays of a batch.

    Axes with names take any size; an array that the program does not know is no hindrance.
    """
    return all(
        len(shape) == batch.arrays[name].ndim
        and all(
            size == found
            for size, found in zip(shape, batch.arrays[name].shape, strict=True)
            if isinstance(size, int)
        )
        for name, shape in shapes.items()
        if name in batch.arrays
    )
