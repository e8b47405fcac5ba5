"""Mask generation: everything in a picture that can be cut out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.validators.core.types import Array, Arrays, Runner
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Batch, Case, Decision, Sample
from equipoise.validators.tasks.shared.images import (
    RIM,
    drawn_samples,
    image_cases,
    picture_sizes,
    pixels,
    resize,
)
from equipoise.validators.tasks.shared.masks import (
    IOU,
    OFFSET,
    SAME,
    STABILITY,
    boxes_of,
    grid,
    stability,
    unlike,
)

POINTS_PER_SIDE = 32
"""Of pipeline()'s grid."""

FEW_POINTS = 4
"""Of the grid of a case: 16 points show every fault that 1024 show, and their masks fit into memory."""

AT_ONCE = 64
"""Points of one forward pass, as pipeline()."""


class MaskGeneration:
    """SAM, asked about a grid of points; one layer of crops, the whole picture."""

    name = "mask-generation"
    aliases = ()
    auto_class = "AutoModelForMaskGeneration"

    def suits(self, model: ModelFolder) -> bool:
        """SAM."""
        return model.model_type in ("sam", "sam_hq") and model.has_image_processor

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures."""
        return drawn_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`image_cases`; few points, and more than fit one pass."""
        few = [
            Case(case.name, case.samples, {"points_per_side": FEW_POINTS})
            for case in image_cases(model, samples)
        ]
        return [*few, Case("passes", (samples[0],), {"points_per_side": 9})]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels, and the points in them."""
        arrays = pixels(model, case.samples)
        sizes = picture_sizes(case.samples)
        arrays.pop("original_sizes", None)
        reshaped = arrays.pop("reshaped_input_sizes").tolist()
        points = grid(int(case.options.get("points_per_side", POINTS_PER_SIDE)))
        scaled = np.stack([points * [width, height] for height, width in reshaped])
        arrays["input_points"] = scaled[:, :, None].astype(np.float32)
        arrays["input_labels"] = np.ones(arrays["input_points"].shape[:3], dtype=np.int64)
        return Batch(case, arrays, context={"sizes": sizes, "reshaped": reshaped})

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """``pred_masks`` and ``iou_scores`` of all points, some of them at a time."""
        parts = []
        for start in range(0, batch.arrays["input_points"].shape[1], AT_ONCE):
            some = slice(start, start + AT_ONCE)
            points = {
                name: batch.arrays[name][:, some] for name in ("input_points", "input_labels")
            }
            given = {**batch.arrays, **points}
            known = {name: value for name, value in given.items() if name in runner.accepts}
            parts.append(runner.run(known, **batch.kwargs))
        names = ("pred_masks", "iou_scores")
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in names}

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """``masks`` and ``scores``, from the best on.

        Options: ``pred_iou_thresh``, ``stability_score_thresh``, ``stability_score_offset``,
        ``mask_threshold``, ``crops_nms_thresh``, ``output_bboxes_mask``.
        """
        return [
            self._masks(model, batch, outputs, index, options)
            for index in range(len(batch.case.samples))
        ]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Which masks are good enough, and their pixels."""
        made = []
        for index in range(len(batch.case.samples)):
            scores = outputs["iou_scores"][index]
            good = scores > IOU
            made.append(
                Decision(
                    "good", np.flatnonzero(good).tolist(), "iou_scores", index, np.abs(scores - IOU)
                )
            )
            point, mask = np.nonzero(good)
            logits = outputs["pred_masks"][index, point, mask]
            areas = (logits > 0).sum((1, 2)).tolist()
            made.append(
                Decision("masks", areas, "pred_masks", (index, point, mask), np.abs(logits), RIM)
            )
        return made

    @staticmethod
    def _masks(
        model: ModelFolder, batch: Batch, outputs: Arrays, index: int, options: dict[str, Any]
    ) -> dict[str, Any]:
        threshold = float(options.get("mask_threshold", 0.0))
        scores = outputs["iou_scores"][index].ravel()
        logits = outputs["pred_masks"][index]
        logits = logits.reshape(-1, *logits.shape[-2:])
        kept = np.flatnonzero(scores > float(options.get("pred_iou_thresh", IOU)))
        wide = _upscaled(model, logits[kept], batch.context, index)
        firm = stability(wide, threshold, float(options.get("stability_score_offset", OFFSET)))
        stable = firm > float(options.get("stability_score_thresh", STABILITY))
        scores, masks = scores[kept][stable], wide[stable] > threshold
        boxes = boxes_of(masks)
        order = unlike(boxes, scores, float(options.get("crops_nms_thresh", SAME)))
        found: dict[str, Any] = {
            "masks": [masks[place] for place in order],
            "scores": scores[order],
        }
        if options.get("output_bboxes_mask"):
            found["bounding_boxes"] = boxes[order]
        return found


def _upscaled(model: ModelFolder, logits: Array, context: dict[str, Any], index: int) -> Array:
    """Masks in the size of the picture: to the padded square, cut, then to the picture."""
    pad = model.image_processor.pad_size
    padded = (int(pad["height"]), int(pad["width"]))
    height, width = context["reshaped"][index]
    whole = [
        resize(resize(mask, padded)[:height, :width], context["sizes"][index]) for mask in logits
    ]
    return np.stack(whole) if whole else np.zeros((0, *context["sizes"][index]))


TASK = MaskGeneration()
