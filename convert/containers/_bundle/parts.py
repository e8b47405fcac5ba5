"""Joins the parts of partitioned variables that a checkpoint stores under names of their own: ``kernel/part_0``, ``kernel/part_1`` ...

A ``Saver`` stores such parts as slices of one variable, which the index says. Checkpoints that were written again variable by variable have them
under their own names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, Shape
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorRef

_PART = re.compile(r"(?P<owner>.+)/part_(?P<number>0|[1-9]\d{0,5})")


@dataclass(frozen=True)
class _JoinedParts:
    """Reads the parts of a variable as one array."""

    parts: tuple[TensorRef, ...]
    axis: int

    def __call__(self) -> Array:
        return np.concatenate([part.read() for part in self.parts], self.axis)


def join_parts(tensors: Mapping[str, TensorRef]) -> tuple[dict[str, TensorRef], tuple[str, ...]]:
    """Returns the tensors with every group of parts as one, and a note where there are some.

    Parts differ in size along one axis only; where all are equal it is the first, along which TensorFlow's partitioners split by default.

    Raises:
        ContainerError: A part is missing, or the parts do not fit together.
    """
    groups: dict[str, dict[int, TensorRef]] = {}
    for name, ref in tensors.items():
        found = _PART.fullmatch(name)
        if found is not None and found["owner"] not in tensors:
            groups.setdefault(found["owner"], {})[int(found["number"])] = ref
    if not groups:
        return dict(tensors), ()
    joined: dict[str, TensorRef] = {}
    for name, ref in tensors.items():
        found = _PART.fullmatch(name)
        owner = found["owner"] if found is not None else ""
        if owner not in groups:
            joined[name] = ref
        elif owner not in joined:
            joined[owner] = _join(owner, groups[owner])
    note = f"{len(groups)} variables are stored in parts (part_0, ...), which are put together"
    return joined, (note,)


def _join(name: str, parts: Mapping[int, TensorRef]) -> TensorRef:
    missing = [number for number in range(max(parts) + 1) if number not in parts]
    first = parts[min(parts)]
    if missing:
        raise ContainerError(
            f"part_{missing[0]} of the variable is missing",
            file=first.file,
            tensor=name,
            expected=f"parts 0 to {max(parts)}",
        )
    refs = tuple(parts[number] for number in sorted(parts))
    shapes = [ref.shape for ref in refs]
    axis = _axis_of(shapes)
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if not first.shape or len(rests) > 1 or len({ref.dtype for ref in refs}) > 1:
        raise ContainerError(
            "the parts of the variable do not fit together",
            file=first.file,
            tensor=name,
            expected="one dtype, and shapes that differ along one axis",
            found=", ".join(f"{ref.dtype.name} {list(ref.shape)}" for ref in refs[:4]),
        )
    size = sum(shape[axis] for shape in shapes)
    shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
    return TensorRef(name, first.dtype, shape, first.file, load=_JoinedParts(refs, axis))


def _axis_of(shapes: list[Shape]) -> int:
    """Returns the first axis along which shapes differ; 0 where they are equal."""
    columns = zip(*shapes, strict=False)
    return next((axis for axis, sizes in enumerate(columns) if len(set(sizes)) > 1), 0)
