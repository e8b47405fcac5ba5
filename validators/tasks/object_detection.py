"""Object detection: bounding boxes of objects."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import Answer, Array, Arrays, Batch, CallOption, Decision
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import ImageTask
from equipoise.validators.tasks.shared.labels import argmax_margins

SCORE_THRESHOLD = 0.5
"""Minimal score of a box; the default of pipeline()."""

_MAX_DETECTIONS = 100
"""Maximal number of boxes of models with independent classes."""

_SIGMOID_MODEL_TYPES = frozenset(
    {"conditional_detr", "deformable_detr", "dab-detr", "rt_detr", "rt_detr_v2", "d_fine"}
)
"""Model types with a sigmoid per class and no class for *no object*."""


class ObjectDetection(ImageTask):
    """DETR and similar models."""

    name = "object-detection"
    auto_class = "AutoModelForObjectDetection"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an object detection class without a tokenizer."""
        return model.class_name.endswith("ForObjectDetection") and not model.has_tokenizer

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns score, label and box of every object with a score above ``threshold`` (0.5)."""
        threshold = float(options.get("threshold", SCORE_THRESHOLD))
        answers = []
        for index, (height, width) in enumerate(batch.context):
            scores, labels, queries = self._best_candidates(model, outputs["logits"][index])
            boxes = _to_corners(outputs["pred_boxes"][index]) * [width, height, width, height]
            answers.append(
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
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns labels and boxes of the detected objects."""
        decisions = []
        for index, (height, width) in enumerate(batch.context):
            logits = outputs["logits"][index]
            scores, labels, queries = self._best_candidates(model, logits)
            detected = np.unique(queries[scores > SCORE_THRESHOLD])
            names = [model.labels[int(label)] for label in labels[scores > SCORE_THRESHOLD]]
            decisions.append(
                Decision("objects", names, "logits", index, self._query_margins(model, logits))
            )
            # An edge is centre +- width / 2, relative to the image: it moves by at most 1.5 times the error.
            # The limit is half a pixel, which is not visible.
            margin = np.full(len(detected), 0.5 / (1.5 * max(height, width)))
            boxes = outputs["pred_boxes"][index, detected].round(4).tolist()
            decisions.append(Decision("boxes", boxes, "pred_boxes", (index, detected), margin))
        return decisions

    @staticmethod
    def _best_candidates(model: ModelFolder, logits: Array) -> tuple[Array, Array, Array]:
        """Returns scores, labels and queries of the candidates."""
        if model.model_type in _SIGMOID_MODEL_TYPES:
            flat_scores = sigmoid(logits).ravel()
            order = np.argsort(-flat_scores, kind="stable")[:_MAX_DETECTIONS]
            return flat_scores[order], order % logits.shape[-1], order // logits.shape[-1]
        probabilities = softmax(logits)[:, :-1]
        return probabilities.max(-1), probabilities.argmax(-1), np.arange(len(probabilities))

    @staticmethod
    def _query_margins(model: ModelFolder, logits: Array) -> Array:
        """Returns for each query how far its logits may move until its label or its side of the threshold changes.

        A probability moves by at most half the logits' error (a quarter for a sigmoid).
        """
        if model.model_type in _SIGMOID_MODEL_TYPES:
            return np.asarray(np.abs(sigmoid(logits) - SCORE_THRESHOLD).min(-1) * 4)
        scores = softmax(logits)[:, :-1].max(-1)
        threshold_margins = np.abs(scores - SCORE_THRESHOLD) * 2
        label_margins = argmax_margins(logits[:, :-1])
        return np.asarray(
            np.where(
                scores > SCORE_THRESHOLD,
                np.minimum(threshold_margins, label_margins),
                threshold_margins,
            )
        )


def _to_corners(boxes: Array) -> Array:
    centre, size = boxes[..., :2].astype(np.float64), boxes[..., 2:].astype(np.float64)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def _box_dict(box: Array) -> dict[str, int]:
    # Rounded to float32 first, as pipeline() does: 15.9999999 is 16 in float32 and would be truncated to 15.
    values = box.astype(np.float32).astype(int).tolist()
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True))


TASK = ObjectDetection()
