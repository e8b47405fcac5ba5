"""Image segmentation: what every pixel belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.model import ModelFolder
from equipoise.validators.runner import Array, Arrays
from equipoise.validators.tasks.base import (
    Batch,
    Case,
    Decision,
    Sample,
    argmax_margins,
    one_forward,
)
from equipoise.validators.tasks.segments import (
    THRESHOLD,
    instances,
    kept_queries,
    panoptic,
    semantic,
    semantic_scores,
)
from equipoise.validators.tasks.vision import (
    RIM,
    drawn_samples,
    image_cases,
    picture_sizes,
    pixels,
    resize,
)

_MASK2FORMER = (384, 384)
"""The size that Mask2Former's masks are brought to first, in all its image processors."""


class ImageSegmentation:
    """Semantic, instance and panoptic segmentation."""

    name = "image-segmentation"
    aliases = ()
    auto_class = "AutoModelForSemanticSegmentation"

    def suits(self, model: ModelFolder) -> bool:
        """A model made for segments."""
        ends = ("ForSemanticSegmentation", "ForInstanceSegmentation", "ForUniversalSegmentation",
                "ForSegmentation")  # fmt: skip
        return model.class_name.endswith(ends)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures."""
        return drawn_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels of the pictures, and their sizes."""
        arrays = pixels(model, case.samples)
        return Batch(case, arrays, context=picture_sizes(case.samples))

    run = one_forward

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """Score, label and mask (0 or 255) of every segment.

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
                for label, score, mask in self._segments(
                    model, outputs, index, size, subtask, options
                )
            ]
            for index, size in enumerate(batch.context)
        ]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Labels of pixels; or of queries, and the pixels that they claim."""
        classes, masks = _names(outputs)
        if masks is None:
            return [_pixel_decision(model, outputs, index) for index in range(len(batch.context))]
        made = []
        for index in range(len(batch.context)):
            logits = outputs[classes][index]
            scores, labels, kept = kept_queries(logits, THRESHOLD)
            # A probability moves by half the logits' error at most.
            far = np.where(labels == logits.shape[-1] - 1, np.inf, np.abs(scores - THRESHOLD) * 2)
            seen = [model.labels[int(label)] for label in labels[kept]]
            margin = np.minimum(argmax_margins(logits), far)
            made.append(Decision("queries", seen, classes, index, margin))
            claimed = outputs[masks][index, kept]
            made.append(
                Decision("masks", (claimed > 0).sum((1, 2)).tolist(), masks, (index, kept),
                         np.abs(claimed), RIM)
            )  # fmt: skip
        return made

    @staticmethod
    def _segments(
        model: ModelFolder,
        outputs: Arrays,
        index: int,
        size: tuple[int, int],
        subtask: str | None,
        options: dict[str, Any],
    ) -> list[Any]:
        classes, masks = _names(outputs)
        if masks is None:
            if subtask not in (None, "semantic"):
                raise InputError(
                    "the model knows no such subtask", found=subtask, expected="semantic"
                )
            return list(semantic(outputs["logits"][index], size))
        logits, claims = outputs[classes][index], outputs[masks][index]
        if model.model_type == "mask2former":
            claims = resize(claims, _MASK2FORMER)
        if subtask == "semantic":
            return list(semantic(semantic_scores(logits, claims), size))
        if subtask == "instance" and not model.model_type.startswith("detr"):
            return list(instances(logits, claims, size, **options))
        return list(panoptic(logits, claims, size, **options))


def _names(outputs: Arrays) -> tuple[str, str | None]:
    """The outputs with the classes and masks of queries; DETR calls them otherwise than MaskFormer."""
    if "class_queries_logits" in outputs:
        return "class_queries_logits", "masks_queries_logits"
    return "logits", "pred_masks" if "pred_masks" in outputs else None


def _pixel_decision(model: ModelFolder, outputs: Arrays, index: int) -> Decision:
    logits: Array = outputs["logits"][index]
    labels, counts = np.unique(logits.argmax(0), return_counts=True)
    value = {model.labels[int(k)]: int(n) for k, n in zip(labels, counts, strict=True)}
    pixel = argmax_margins(np.moveaxis(logits, 0, -1))
    margins = np.broadcast_to(pixel, logits.shape)
    return Decision("pixels", value, "logits", index, margins, RIM)


TASK = ImageSegmentation()
