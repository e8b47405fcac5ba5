"""Masks out of the scores of points, as ``pipeline("mask-generation")`` chooses among them."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.types import Array

IOU_THRESHOLD = 0.88
"""The least quality that the model gives itself, and below: pipeline()'s defaults."""

STABILITY_THRESHOLD = 0.95
STABILITY_OFFSET = 1.0
NMS_IOU_THRESHOLD = 0.7


def point_grid(per_side: int) -> Array:
    """Points over the unit square, row by row (points, 2)."""
    line = (np.arange(per_side) + 0.5) / per_side
    return np.stack([np.tile(line, per_side), np.repeat(line, per_side)], axis=-1)


def stability_score(masks: Array, threshold: float, offset: float) -> Array:
    """How little a mask changes when its threshold is moved up and down."""
    inner = (masks > threshold + offset).sum(axis=(-1, -2))
    outer = (masks > threshold - offset).sum(axis=(-1, -2))
    return np.asarray(np.divide(inner, outer, out=np.full(inner.shape, np.nan), where=outer > 0))


def mask_boxes(masks: Array) -> Array:
    """Left, top, right, bottom of each mask; zeros of an empty one."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1], rows[-1]
    return boxes


def non_max_suppression(boxes: Array, scores: Array, same: float) -> list[int]:
    """The places of boxes that are kept, from the best score on, when those much like a better one go."""
    kept: list[int] = []
    for place in np.argsort(-scores, kind="stable").tolist():
        if all(_iou(boxes[place], boxes[other]) <= same for other in kept):
            kept.append(place)
    return kept


def _iou(one: Array, other: Array) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    union = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared
    return float(shared / union) if union > 0 else 0.0
