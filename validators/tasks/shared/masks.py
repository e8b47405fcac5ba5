"""Masks of images: selects among masks of points (SAM), and computes segments from the scores of queries (Mask2Former, DETR)."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import Array, CallOption
from equipoise.validators.tasks.shared.images import resize

IOU_THRESHOLD = 0.88
"""Minimal quality that the model predicts for its mask; this and the following are the defaults of pipeline()."""

STABILITY_THRESHOLD = 0.95
STABILITY_OFFSET = 1.0
NMS_IOU_THRESHOLD = 0.7


def point_grid(per_side: int) -> Array:
    """Returns points on the unit square, row by row (points, 2)."""
    line = (np.arange(per_side) + 0.5) / per_side
    return np.stack([np.tile(line, per_side), np.repeat(line, per_side)], axis=-1)


def stability_score(masks: Array, threshold: float, offset: float) -> Array:
    """Returns the IoU of each mask at a higher and a lower threshold."""
    inner = (masks > threshold + offset).sum(axis=(-1, -2))
    outer = (masks > threshold - offset).sum(axis=(-1, -2))
    return np.asarray(np.divide(inner, outer, out=np.full(inner.shape, np.nan), where=outer > 0))


def mask_boxes(masks: Array) -> Array:
    """Returns left, top, right, bottom of each mask; zeros for an empty one."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1], rows[-1]
    return boxes


def non_max_suppression(boxes: Array, scores: Array, same: float) -> list[int]:
    """Returns the indices kept by non-maximum suppression, best score first."""
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


SEGMENT_SCORE_THRESHOLD = 0.9
"""Minimal score of a segment; this and the following are the defaults of pipeline()."""

MASK_THRESHOLD = 0.5
OVERLAP_THRESHOLD = 0.5

Segment = tuple[int, float, Array]
"""Label, score, and boolean mask."""


def panoptic_segments(
    classes: Array, masks: Array, size: tuple[int, int], **options: CallOption
) -> list[Segment]:
    """Returns segments without overlap: each pixel belongs to the query with the highest score.

    Args:
        classes: Logits (queries, labels and one for no object).
        masks: Logits (queries, height, width).
        size: Height and width of the image.
        options: ``threshold``, ``mask_threshold``, ``overlap_mask_area_threshold``.
    """
    least = float(options.get("mask_threshold", MASK_THRESHOLD))
    overlap = float(options.get("overlap_mask_area_threshold", OVERLAP_THRESHOLD))
    scores, labels, kept = select_queries(
        classes, float(options.get("threshold", SEGMENT_SCORE_THRESHOLD))
    )
    if not len(kept):
        return []
    claims = resize(sigmoid(masks[kept]), size) * scores[kept, None, None]
    owner = claims.argmax(0)
    found = []
    for index, query in enumerate(kept.tolist()):
        mine, claimed = owner == index, (claims[index] >= least).sum()
        if mine.sum() and claimed and mine.sum() / claimed > overlap:
            found.append((int(labels[query]), round(float(scores[query]), 6), mine))
    return found


def instance_segments(
    classes: Array, masks: Array, size: tuple[int, int], **options: CallOption
) -> list[Segment]:
    """Returns the segments of the best pairs of query and label, as MaskFormer does; the best one is on top.

    pipeline() uses the order of ``topk(sorted=False)``, which PyTorch does not specify: where segments overlap, it may
    show another one on top.
    """
    least = float(options.get("threshold", SEGMENT_SCORE_THRESHOLD))
    known = softmax(classes)[:, :-1]
    best = np.argsort(-known, axis=None, kind="stable")[: len(classes)]
    owner = np.full(size, -1)
    found: list[tuple[int, float]] = []
    for place in best[::-1].tolist():
        query, label = divmod(place, known.shape[1])
        inside = masks[query] > 0
        sure = (sigmoid(masks[query]) * inside).sum() / (inside.sum() + 1e-6)
        score = float(known[query, label] * sure)
        wide = resize(inside.astype(np.float64), size, "nearest") > 0
        if wide.any() and score >= least:
            owner[wide] = len(found)
            found.append((label, round(score, 6)))
    return [(label, score, owner == index) for index, (label, score) in enumerate(found)]


def semantic_segments(scores: Array, size: tuple[int, int]) -> list[tuple[int, None, Array]]:
    """Returns one segment per label, given scores (labels, height, width)."""
    owner = resize(scores, size).argmax(0)
    return [(int(label), None, owner == label) for label in np.unique(owner)]


def semantic_scores(classes: Array, masks: Array) -> Array:
    """Returns scores of labels per pixel, given those of queries."""
    return np.asarray(np.einsum("qc,qhw->chw", softmax(classes)[:, :-1], sigmoid(masks)))


def select_queries(classes: Array, threshold: float) -> tuple[Array, Array, Array]:
    """Returns scores and labels of all queries, and the indices of those that detect an object."""
    chances = softmax(classes)
    scores, labels = chances.max(-1), chances.argmax(-1)
    nothing = classes.shape[-1] - 1
    return scores, labels, np.flatnonzero((labels != nothing) & (scores > threshold))
