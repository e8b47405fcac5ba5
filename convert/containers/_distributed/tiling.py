"""Parts of a tensor: checks that they cover it exactly, and streams it in C order without holding it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from equipoise.convert.core.arrays import DType, Shape
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorRef, array_blocks

_MAX_IRREGULAR_PARTS = 4096
"""Parts that form no grid are compared with each other."""


@dataclass(frozen=True, slots=True)
class Part:
    """A box of a tensor: where it begins along each axis, and its shape."""

    offsets: Shape
    sizes: Shape


def check_tiling(name: str, shape: Shape, parts: Sequence[Part]) -> None:
    """Checks that parts cover a tensor, each element once.

    Raises:
        ContainerError: They reach beyond it, overlap or leave elements out.
    """
    for part in parts:
        axes = list(zip(part.offsets, part.sizes, shape, strict=False))
        if len(part.offsets) != len(shape) or len(part.sizes) != len(shape):
            raise ContainerError(
                "a part of the tensor has another number of axes",
                tensor=name,
                expected=f"{len(shape)}",
                found=f"{list(part.sizes)} at {list(part.offsets)}",
            )
        if any(start + size > whole for start, size, whole in axes):
            raise ContainerError(
                "a part of the tensor reaches beyond it",
                tensor=name,
                expected=f"within {list(shape)}",
                found=f"{list(part.sizes)} at {list(part.offsets)}",
            )
    volume = sum(math.prod(part.sizes) for part in parts)
    if volume < math.prod(shape):
        raise ContainerError(
            "parts of the tensor are missing",
            tensor=name,
            expected=f"{math.prod(shape)} elements",
            found=f"{volume} elements in {len(parts)} parts",
            hint="the checkpoint is not complete; save or copy it again",
        )
    if volume > math.prod(shape) or not (_is_grid(parts) or _are_disjoint(parts)):
        raise ContainerError(
            "parts of the tensor overlap", tensor=name, expected="each element once"
        )


def _is_grid(parts: Sequence[Part]) -> bool:
    """Whether parts lie side by side along every axis, so that equal volumes mean that nothing overlaps."""
    counts = 1
    for axis in range(len(parts[0].sizes) if parts else 0):
        spans = sorted({(part.offsets[axis], part.sizes[axis]) for part in parts})
        if _has_overlap(spans):
            return False
        counts *= len(spans)
    return counts == len({part.offsets for part in parts}) == len(parts) or not parts


def _has_overlap(spans: Sequence[tuple[int, int]]) -> bool:
    """Whether two of sorted pairs of start and length overlap."""
    return any(start + size > after for (start, size), (after, _) in pairwise(spans))


def _are_disjoint(parts: Sequence[Part]) -> bool:
    if len(parts) > _MAX_IRREGULAR_PARTS:
        return False
    starts = np.array([part.offsets for part in parts], np.int64)
    ends = starts + np.array([part.sizes for part in parts], np.int64)
    for index in range(len(parts) - 1):
        after = slice(index + 1, None)
        apart = (starts[after] >= ends[index]) | (ends[after] <= starts[index])
        if not apart.any(axis=1).all():
            return False
    return True


def stream_parts(
    shape: Shape, dtype: DType, parts: Sequence[tuple[Part, TensorRef]]
) -> Iterator[memoryview]:
    """Yields the bytes of a tensor in C order.

    Parts that span all axes but the first are passed on one after the other; others are put together band by band, a band being
    the rows between two cuts along the first axis.

    Args:
        shape: The shape of the tensor.
        dtype: Its dtype.
        parts: What covers it, with the bytes of each.
    """
    if not math.prod(shape):
        return
    if not shape:
        yield from parts[0][1].blocks()
        return
    bands: dict[tuple[int, int], list[tuple[Part, TensorRef]]] = defaultdict(list)
    for part, ref in parts:
        bands[part.offsets[0], part.sizes[0]].append((part, ref))
    spans = sorted(bands)
    if _has_overlap(spans):
        spans = [(0, shape[0])]
        bands = {spans[0]: list(parts)}
    for first, rows in spans:
        inside = bands[first, rows]
        if len(inside) == 1:
            yield from inside[0][1].blocks()
        else:
            band = np.empty((rows, *shape[1:]), dtype)
            for part, ref in inside:
                box = [slice(at, at + n) for at, n in zip(part.offsets, part.sizes, strict=True)]
                box[0] = slice(box[0].start - first, box[0].stop - first)
                band[tuple(box)] = ref.read()
            yield from array_blocks(band)
