"""Object detection: bounding boxes of objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import (
    image_cases,
    image_sizes,
    preprocess_images,
    synthetic_image_samples,
)
from equipoise.validators.tasks.shared.labels import argmax_margins

SCORE_THRESHOLD = 0.5
"""Minimal score of a box; the default of pipeline()."""

_MAX_DETECTIONS = 100
"""Maximal number of boxes of models with independent classes."""

_SIGMOID_MODEL_TYPES = frozenset(
    {"conditional_detr", "deformable_detr", "dab-detr", "rt_detr", "rt_detr_v2", "d_fine"}
)
"""Model types with a sigmoid per class and no class for *no object*."""


class ObjectDetection:
    """DETR and similar models."""

    name = "object-detection"
    aliases = ()
    auto_class = "AutoModelForObjectDetection"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an object detection class without a tokenizer."""
        return model.class_name.endswith("ForObjectDetection") and not model.has_tokenizer

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases`; images of different sizes are padded and get a mask."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images and their mask, and stores their sizes."""
        arrays = preprocess_images(model, case.samples)
        return Batch(case, arrays, context=image_sizes(case.samples))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns score, label and box of every object with a score above ``threshold`` (0.5)."""
        threshold = float(options.get("threshold", SCORE_THRESHOLD))
        found = []
        for index, (height, width) in enumerate(batch.context):
            scores, labels, queries = self._best_candidates(model, outputs["logits"][index])
            boxes = _to_corners(outputs["pred_boxes"][index]) * [width, height, width, height]
            found.append(
                [
                    {
                        "score": float(score),
                        "label": model.labels[int(label)],
                        "box": _box_dict(boxes[query]),
                    }
                    for score, label, query in zip(scores, labels, queries, strict=True)
                    if score > threshold
                ]
            )
        return found

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns labels and boxes of the detected objects."""
        made = []
        for index, (height, width) in enumerate(batch.context):
            logits = outputs["logits"][index]
            scores, labels, queries = self._best_candidates(model, logits)
            kept = np.unique(queries[scores > SCORE_THRESHOLD])
            seen = [model.labels[int(label)] for label in labels[scores > SCORE_THRESHOLD]]
            made.append(
                Decision("objects", seen, "logits", index, self._query_margins(model, logits))
            )
            # An edge is centre +- width / 2, relative to the image: it moves by at most 1.5 times the error.
            # The limit is half a pixel, which is not visible.
            margin = np.full(len(kept), 0.5 / (1.5 * max(height, width)))
            boxes = outputs["pred_boxes"][index, kept].round(4).tolist()
            made.append(Decision("boxes", boxes, "pred_boxes", (index, kept), margin))
        return made

    @staticmethod
    def _best_candidates(model: ModelFolder, logits: Array) -> tuple[Array, Array, Array]:
        """Returns scores, labels and queries of the candidates."""
        if model.model_type in _SIGMOID_MODEL_TYPES:
            flat = sigmoid(logits).ravel()
            order = np.argsort(-flat, kind="stable")[:_MAX_DETECTIONS]
            return flat[order], order % logits.shape[-1], order // logits.shape[-1]
        known = softmax(logits)[:, :-1]
        return known.max(-1), known.argmax(-1), np.arange(len(known))

    @staticmethod
    def _query_margins(model: ModelFolder, logits: Array) -> Array:
        """Returns for each query how far its logits may move until its label or its side of the threshold changes.

        A probability moves by at most half the logits' error (a quarter for a sigmoid).
        """
        if model.model_type in _SIGMOID_MODEL_TYPES:
            return np.asarray(np.abs(sigmoid(logits) - SCORE_THRESHOLD).min(-1) * 4)
        known = softmax(logits)[:, :-1].max(-1)
        far = np.abs(known - SCORE_THRESHOLD) * 2
        between = argmax_margins(logits[:, :-1])
        return np.asarray(np.where(known > SCORE_THRESHOLD, np.minimum(far, between), far))


def _to_corners(boxes: Array) -> Array:
    centre, size = boxes[..., :2].astype(np.float64), boxes[..., 2:].astype(np.float64)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def _box_dict(box: Array) -> dict[str, int]:
    # Rounded to float32 first, as pipeline() does: 15.9999999 is 16 in float32 and would be truncated to 15.
    values = box.astype(np.float32).astype(int).tolist()
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True))


TASK = ObjectDetection()
