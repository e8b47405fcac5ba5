"""Depth estimation: the distance of everything in an image."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Decision
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import ImageTask, resize


class DepthEstimation(ImageTask):
    """Models that predict a depth for every pixel."""

    name = "depth-estimation"
    auto_class = "AutoModelForDepthEstimation"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a class for depth estimation."""
        return model.class_name.endswith("ForDepthEstimation")

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``predicted_depth`` in the image's size, and ``depth`` as a grey image."""
        from PIL import Image

        answers = []
        for depth, size in zip(outputs["predicted_depth"], batch.context, strict=True):
            resized = resize(depth, size, "bicubic")
            value_range = resized.max() - resized.min()
            grey = (
                (resized - resized.min()) / value_range if value_range else np.zeros_like(resized)
            )
            answers.append(
                {
                    "predicted_depth": resized.astype(np.float32),
                    "depth": Image.fromarray((grey * 255).astype(np.uint8)),
                }
            )
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the grey image; its margin is half a step of 255, so that no pixel changes by more than one step."""
        decisions = []
        for index, depth in enumerate(outputs["predicted_depth"]):
            low, high = float(depth.min()), float(depth.max())
            margin = np.asarray((high - low) / 255 / 2)
            decisions.append(Decision("depth", [low, high], "predicted_depth", index, margin))
        return decisions


TASK = DepthEstimation()
