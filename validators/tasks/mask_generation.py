"""Mask generation: masks of all objects in an image."""

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
    Runner,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.images import (
    BORDER_PIXEL_SHARE,
    image_cases,
    image_sizes,
    preprocess_images,
    resize,
    synthetic_image_samples,
)
from equipoise.validators.tasks.shared.masks import (
    IOU_THRESHOLD,
    NMS_IOU_THRESHOLD,
    STABILITY_OFFSET,
    STABILITY_THRESHOLD,
    mask_boxes,
    non_max_suppression,
    point_grid,
    run_lengths,
    stability_score,
)

POINTS_PER_SIDE = 32
"""Points per side of the grid; the default of pipeline()."""

TEST_POINTS_PER_SIDE = 4
"""Points per side in cases: 16 points reveal every error that 1024 reveal, and their masks fit into memory."""

POINTS_PER_BATCH = 64
"""Points per forward pass, as in pipeline()."""


class MaskGeneration:
    """SAM, prompted with a grid of points on the whole image, without crops."""

    name = "mask-generation"
    aliases = ()
    auto_class = "AutoModelForMaskGeneration"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for SAM."""
        return model.model_type in ("sam", "sam_hq") and model.has_image_processor

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases` with few points, and one that needs several forward passes."""
        grid_cases = [
            Case(case.name, case.samples, {"points_per_side": TEST_POINTS_PER_SIDE})
            for case in image_cases(model, samples)
        ]
        return [*grid_cases, Case("passes", (samples[0],), {"points_per_side": 9})]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images and the points."""
        arrays = preprocess_images(model, case.samples)
        sizes = image_sizes(case.samples)
        arrays.pop("original_sizes", None)
        reshaped = arrays.pop("reshaped_input_sizes").tolist()
        side = case.options.get("points_per_crop", case.options.get("points_per_side"))
        points = point_grid(int(side or POINTS_PER_SIDE))
        scaled = np.stack([points * [width, height] for height, width in reshaped])
        arrays["input_points"] = scaled[:, :, None].astype(np.float32)
        arrays["input_labels"] = np.ones(arrays["input_points"].shape[:3], dtype=np.int64)
        return Batch(case, arrays, context={"sizes": sizes, "reshaped": reshaped})

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """Returns ``pred_masks`` and ``iou_scores`` of all points; runs several forward passes if necessary."""
        parts = []
        count = batch.arrays["input_points"].shape[1]
        step = batch.case.options.get("points_per_batch", POINTS_PER_BATCH) or count
        if step < 1:
            raise InputError("the option points_per_batch takes at least 1", found=str(step))
        for start in range(0, count, step):
            chunk = slice(start, start + step)
            points = {
                name: batch.arrays[name][:, chunk] for name in ("input_points", "input_labels")
            }
            arrays = {**batch.arrays, **points}
            inputs = {name: value for name, value in arrays.items() if name in runner.accepts}
            parts.append(runner.run(inputs, **batch.kwargs))
        names = ("pred_masks", "iou_scores")
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in names}

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``masks`` and ``scores``, best first.

        Options: ``pred_iou_thresh``, ``stability_score_thresh``, ``stability_score_offset``,
        ``mask_threshold``, ``crops_nms_thresh``, ``output_bboxes_mask``.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return [
            self._select_masks(model, batch, outputs, index, given)
            for index in range(len(batch.case.samples))
        ]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the masks with a sufficient score, and their pixels."""
        decisions = []
        for index in range(len(batch.case.samples)):
            scores = outputs["iou_scores"][index]
            is_good = scores > IOU_THRESHOLD
            decisions.append(
                Decision(
                    "good",
                    np.flatnonzero(is_good).tolist(),
                    "iou_scores",
                    index,
                    np.abs(scores - IOU_THRESHOLD),
                )
            )
            point, mask = np.nonzero(is_good)
            logits = outputs["pred_masks"][index, point, mask]
            areas = (logits > 0).sum((1, 2)).tolist()
            decisions.append(
                Decision(
                    "masks",
                    areas,
                    "pred_masks",
                    (index, point, mask),
                    np.abs(logits),
                    BORDER_PIXEL_SHARE,
                )
            )
        return decisions

    @staticmethod
    def _select_masks(
        model: ModelFolder,
        batch: Batch,
        outputs: Arrays,
        index: int,
        options: dict[str, CallOption],
    ) -> dict[str, Answer]:
        threshold = float(options.get("mask_threshold", 0.0))
        scores = outputs["iou_scores"][index].ravel()
        logits = outputs["pred_masks"][index]
        logits = logits.reshape(-1, *logits.shape[-2:])
        candidates = np.flatnonzero(scores > float(options.get("pred_iou_thresh", IOU_THRESHOLD)))
        upscaled = _upscale_masks(model, logits[candidates], batch.context, index)
        stability = stability_score(
            upscaled, threshold, float(options.get("stability_score_offset", STABILITY_OFFSET))
        )
        stable = stability > float(options.get("stability_score_thresh", STABILITY_THRESHOLD))
        scores, masks = scores[candidates][stable], upscaled[stable] > threshold
        boxes = mask_boxes(masks)
        order = non_max_suppression(
            boxes, scores, float(options.get("crops_nms_thresh", NMS_IOU_THRESHOLD))
        )
        answer: dict[str, Answer] = {
            "masks": [masks[position] for position in order],
            "scores": scores[order],
        }
        if options.get("output_rle_mask"):
            answer["rle_mask"] = [run_lengths(masks[position]) for position in order]
        if options.get("output_bboxes_mask"):
            answer["bounding_boxes"] = boxes[order].astype(np.int64)
        return answer


def _upscale_masks(
    model: ModelFolder, logits: Array, context: dict[str, list[tuple[int, int]]], index: int
) -> Array:
    """Resizes masks to the padded square, crops them, and resizes them to the image."""
    pad = model.image_processor.pad_size
    padded = (int(pad["height"]), int(pad["width"]))
    height, width = context["reshaped"][index]
    upscaled = [
        resize(resize(mask, padded)[:height, :width], context["sizes"][index]) for mask in logits
    ]
    return np.stack(upscaled) if upscaled else np.zeros((0, *context["sizes"][index]))


TASK = MaskGeneration()
