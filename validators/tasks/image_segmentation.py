"""Image segmentation: assigns pixels to labels or objects."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Answer, Array, Arrays, Batch, CallOption, Decision
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import BORDER_PIXEL_SHARE, ImageTask, resize
from equipoise.validators.tasks.shared.labels import argmax_margins
from equipoise.validators.tasks.shared.masks import (
    SEGMENT_SCORE_THRESHOLD,
    instance_segments,
    panoptic_segments,
    select_queries,
    semantic_scores,
    semantic_segments,
)

_MASK2FORMER_SIZE = (384, 384)
"""Size that all image processors of Mask2Former resize masks to first."""


class ImageSegmentation(ImageTask):
    """Semantic, instance and panoptic segmentation."""

    name = "image-segmentation"
    auto_class = "AutoModelForSemanticSegmentation"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a segmentation class."""
        kinds = ("Semantic", "Instance", "Universal", "")
        return model.class_name.endswith(tuple(f"For{kind}Segmentation" for kind in kinds))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns score, label and mask (0 or 255) of every segment.

        Options: ``subtask`` (panoptic, instance, semantic), ``threshold``, ``mask_threshold``,
        ``overlap_mask_area_threshold``.
        """
        from PIL import Image

        subtask = options.pop("subtask", None)
        return [
            [
                {
                    "score": score,
                    "label": model.labels[label],
                    "mask": Image.fromarray(mask.astype(np.uint8) * 255),
                }
                for label, score, mask in self._find_segments(
                    model, outputs, index, size, subtask, options
                )
            ]
            for index, size in enumerate(batch.context)
        ]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the labels of pixels; or those of queries, and the pixels of their masks."""
        classes, masks = _output_names(outputs)
        if masks is None:
            return [_pixel_decision(model, outputs, index) for index in range(len(batch.context))]
        decisions = []
        for index in range(len(batch.context)):
            logits = outputs[classes][index]
            scores, labels, queries = select_queries(logits, SEGMENT_SCORE_THRESHOLD)
            # A probability moves by at most half the logits' error.
            threshold_margins = np.where(
                labels == logits.shape[-1] - 1, np.inf, np.abs(scores - SEGMENT_SCORE_THRESHOLD) * 2
            )
            names = [model.labels[int(label)] for label in labels[queries]]
            margin = np.minimum(argmax_margins(logits), threshold_margins)
            decisions.append(Decision("queries", names, classes, index, margin))
            pixel_logits = outputs[masks][index, queries]
            decisions.append(
                Decision("masks", (pixel_logits > 0).sum((1, 2)).tolist(), masks, (index, queries),
                         np.abs(pixel_logits), BORDER_PIXEL_SHARE)
            )  # fmt: skip
        return decisions

    @staticmethod
    def _find_segments(
        model: ModelFolder,
        outputs: Arrays,
        index: int,
        size: tuple[int, int],
        subtask: str | None,
        options: dict[str, CallOption],
    ) -> list[Answer]:
        classes, masks = _output_names(outputs)
        if masks is None:
            if subtask not in (None, "semantic"):
                raise InputError(
                    "the model does not support this subtask", found=subtask, expected="semantic"
                )
            return list(semantic_segments(outputs["logits"][index], size))
        logits, mask_logits = outputs[classes][index], outputs[masks][index]
        if model.model_type == "mask2former":
            mask_logits = resize(mask_logits, _MASK2FORMER_SIZE)
        if subtask == "semantic":
            return list(semantic_segments(semantic_scores(logits, mask_logits), size))
        if subtask == "instance" and not model.model_type.startswith("detr"):
            return list(instance_segments(logits, mask_logits, size, **options))
        return list(panoptic_segments(logits, mask_logits, size, **options))


def _output_names(outputs: Arrays) -> tuple[str, str | None]:
    """Returns the names of the outputs with classes and masks of queries, which differ between DETR and MaskFormer."""
    if "class_queries_logits" in outputs:
        return "class_queries_logits", "masks_queries_logits"
    return "logits", "pred_masks" if "pred_masks" in outputs else None


def _pixel_decision(model: ModelFolder, outputs: Arrays, index: int) -> Decision:
    logits: Array = outputs["logits"][index]
    labels, counts = np.unique(logits.argmax(0), return_counts=True)
    value = {model.labels[int(k)]: int(n) for k, n in zip(labels, counts, strict=True)}
    pixel_margins = argmax_margins(np.moveaxis(logits, 0, -1))
    margins = np.broadcast_to(pixel_margins, logits.shape)
    return Decision("pixels", value, "logits", index, margins, BORDER_PIXEL_SHARE)


TASK = ImageSegmentation()
