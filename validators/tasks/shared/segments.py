"""Segments of a picture out of the scores of queries and masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import Array
from equipoise.validators.tasks.shared.images import resize

THRESHOLD = 0.9
"""The least score of a segment, and below: pipeline()'s defaults."""

MASK_THRESHOLD = 0.5
OVERLAP_THRESHOLD = 0.5

Segment = tuple[int, float, Array]
"""Label, score, and where it is (bool)."""


def panoptic_segments(
    classes: Array, masks: Array, size: tuple[int, int], **options: Any
) -> list[Segment]:
    """Segments that share no pixel: each pixel goes to the query that claims it most.

    Args:
        classes: Logits (queries, labels and one for nothing).
        masks: Logits (queries, height, width).
        size: Height and width of the picture.
        options: ``threshold``, ``mask_threshold``, ``overlap_mask_area_threshold``.
    """
    least = float(options.get("mask_threshold", MASK_THRESHOLD))
    overlap = float(options.get("overlap_mask_area_threshold", OVERLAP_THRESHOLD))
    scores, labels, kept = select_queries(classes, float(options.get("threshold", THRESHOLD)))
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
    classes: Array, masks: Array, size: tuple[int, int], **options: Any
) -> list[Segment]:
    """Segments by MaskFormer's other reading: the best pairs of query and label, the best one on top.

    pipeline() takes them in the order of ``topk(sorted=False)``, which torch leaves open: where segments
    overlap, it may show another one on top.
    """
    least = float(options.get("threshold", THRESHOLD))
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
    """One segment a label, out of scores (labels, height, width)."""
    owner = resize(scores, size).argmax(0)
    return [(int(label), None, owner == label) for label in np.unique(owner)]


def semantic_scores(classes: Array, masks: Array) -> Array:
    """Scores of labels by pixel, out of those of queries."""
    return np.asarray(np.einsum("qc,qhw->chw", softmax(classes)[:, :-1], sigmoid(masks)))


def select_queries(classes: Array, threshold: float) -> tuple[Array, Array, Array]:
    """Scores and labels of all queries, and those that see something."""
    chances = softmax(classes)
    scores, labels = chances.max(-1), chances.argmax(-1)
    nothing = classes.shape[-1] - 1
    return scores, labels, np.flatnonzero((labels != nothing) & (scores > threshold))
