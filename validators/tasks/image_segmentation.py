"""Image segmentation: assigns pixels to labels or objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
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
    BORDER_PIXEL_SHARE,
    image_cases,
    image_sizes,
    preprocess_images,
    resize,
    synthetic_image_samples,
)
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


class ImageSegmentation:
    """Semantic, instance and panoptic segmentation."""

    name = "image-segmentation"
    aliases = ()
    auto_class = "AutoModelForSemanticSegmentation"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a segmentation class."""
        ends = ("ForSemanticSegmentation", "ForInstanceSegmentation", "ForUniversalSegmentation",
                "ForSegmentation")  # fmt: skip
        return model.class_name.endswith(ends)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images and stores their sizes."""
        arrays = preprocess_images(model, case.samples)
        return Batch(case, arrays, context=image_sizes(case.samples))

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
        made = []
        for index in range(len(batch.context)):
            logits = outputs[classes][index]
            scores, labels, kept = select_queries(logits, SEGMENT_SCORE_THRESHOLD)
            # A probability moves by at most half the logits' error.
            far = np.where(
                labels == logits.shape[-1] - 1, np.inf, np.abs(scores - SEGMENT_SCORE_THRESHOLD) * 2
            )
            seen = [model.labels[int(label)] for label in labels[kept]]
            margin = np.minimum(argmax_margins(logits), far)
            made.append(Decision("queries", seen, classes, index, margin))
            claimed = outputs[masks][index, kept]
            made.append(
                Decision("masks", (claimed > 0).sum((1, 2)).tolist(), masks, (index, kept),
                         np.abs(claimed), BORDER_PIXEL_SHARE)
            )  # fmt: skip
        return made

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
        logits, claims = outputs[classes][index], outputs[masks][index]
        if model.model_type == "mask2former":
            claims = resize(claims, _MASK2FORMER_SIZE)
        if subtask == "semantic":
            return list(semantic_segments(semantic_scores(logits, claims), size))
        if subtask == "instance" and not model.model_type.startswith("detr"):
            return list(instance_segments(logits, claims, size, **options))
        return list(panoptic_segments(logits, claims, size, **options))


def _output_names(outputs: Arrays) -> tuple[str, str | None]:
    """Returns the names of the outputs with classes and masks of queries, which differ between DETR and MaskFormer."""
    if "class_queries_logits" in outputs:
        return "class_queries_logits", "masks_queries_logits"
    return "logits", "pred_masks" if "pred_masks" in outputs else None


def _pixel_decision(model: ModelFolder, outputs: Arrays, index: int) -> Decision:
    logits: Array = outputs["logits"][index]
    labels, counts = np.unique(logits.argmax(0), return_counts=True)
    value = {model.labels[int(k)]: int(n) for k, n in zip(labels, counts, strict=True)}
    pixel = argmax_margins(np.moveaxis(logits, 0, -1))
    margins = np.broadcast_to(pixel, logits.shape)
    return Decision("pixels", value, "logits", index, margins, BORDER_PIXEL_SHARE)


TASK = ImageSegmentation()
