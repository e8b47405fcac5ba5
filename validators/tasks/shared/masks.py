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


def point_grid(points_per_side: int) -> Array:
    """Returns points on the unit square, row by row (points, 2)."""
    coordinates = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(
        [np.tile(coordinates, points_per_side), np.repeat(coordinates, points_per_side)], axis=-1
    )


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


def run_lengths(mask: Array) -> dict[str, list[int]]:
    """Returns how many pixels are outside, inside, outside ... of a mask, column by column, and its height and width.

    >>> run_lengths(np.array([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': [2, 2]}
    """
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def non_max_suppression(boxes: Array, scores: Array, iou_threshold: float) -> list[int]:
    """Returns the indices kept by non-maximum suppression, best score first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if all(_iou(boxes[index], boxes[other]) <= iou_threshold for other in kept):
            kept.append(index)
    return kept


def _iou(box: Array, other: Array) -> float:
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    intersection = np.prod(np.maximum(high - low, 0))
    union = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - intersection
    return float(intersection / union) if union > 0 else 0.0


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
    mask_threshold = float(options.get("mask_threshold", MASK_THRESHOLD))
    overlap = float(options.get("overlap_mask_area_threshold", OVERLAP_THRESHOLD))
    scores, labels, queries = select_queries(
        classes, float(options.get("threshold", SEGMENT_SCORE_THRESHOLD))
    )
    if not len(queries):
        return []
    claims = resize(sigmoid(masks[queries]), size) * scores[queries, None, None]
    best_query = claims.argmax(0)
    segments = []
    for index, query in enumerate(queries.tolist()):
        mask, claimed = best_query == index, (claims[index] >= mask_threshold).sum()
        if mask.sum() and claimed and mask.sum() / claimed > overlap:
            segments.append((int(labels[query]), round(float(scores[query]), 6), mask))
    return segments


def instance_segments(
    classes: Array, masks: Array, size: tuple[int, int], **options: CallOption
) -> list[Segment]:
    """Returns the segments of the best pairs of query and label, as MaskFormer does; the best one is on top.

    pipeline() uses the order of ``topk(sorted=False)``, which PyTorch does not specify: where segments overlap, it may
    show another one on top.
    """
    threshold = float(options.get("threshold", SEGMENT_SCORE_THRESHOLD))
    probabilities = softmax(classes)[:, :-1]
    best = np.argsort(-probabilities, axis=None, kind="stable")[: len(classes)]
    segment_of_pixel = np.full(size, -1)
    segments: list[tuple[int, float]] = []
    for pair in best[::-1].tolist():
        query, label = divmod(pair, probabilities.shape[1])
        mask = masks[query] > 0
        confidence = (sigmoid(masks[query]) * mask).sum() / (mask.sum() + 1e-6)
        score = float(probabilities[query, label] * confidence)
        resized = resize(mask.astype(np.float64), size, "nearest") > 0
        if resized.any() and score >= threshold:
            segment_of_pixel[resized] = len(segments)
            segments.append((label, round(score, 6)))
    return [
        (label, score, segment_of_pixel == index) for index, (label, score) in enumerate(segments)
    ]


def semantic_segments(scores: Array, size: tuple[int, int]) -> list[tuple[int, None, Array]]:
    """Returns one segment per label, given scores (labels, height, width)."""
    best_label = resize(scores, size).argmax(0)
    return [(int(label), None, best_label == label) for label in np.unique(best_label)]


def semantic_scores(classes: Array, masks: Array) -> Array:
    """Returns scores of labels per pixel, given those of queries."""
    return np.asarray(np.einsum("qc,qhw->chw", softmax(classes)[:, :-1], sigmoid(masks)))


def select_queries(classes: Array, threshold: float) -> tuple[Array, Array, Array]:
    """Returns scores and labels of all queries, and the indices of those that detect an object."""
    probabilities = softmax(classes)
    scores, labels = probabilities.max(-1), probabilities.argmax(-1)
    no_object = classes.shape[-1] - 1
    return scores, labels, np.flatnonzero((labels != no_object) & (scores > threshold))
