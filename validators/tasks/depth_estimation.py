"""Depth estimation: the distance of everything in an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.validators.core.types import (
    Answer,
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
    resize,
    synthetic_image_samples,
)


class DepthEstimation:
    """Models that predict a depth for every pixel."""

    name = "depth-estimation"
    aliases = ()
    auto_class = "AutoModelForDepthEstimation"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a class for depth estimation."""
        return model.class_name.endswith("ForDepthEstimation")

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
        """Returns ``predicted_depth`` in the image's size, and ``depth`` as a grey image."""
        from PIL import Image

        found = []
        for depth, size in zip(outputs["predicted_depth"], batch.context, strict=True):
            whole = resize(depth, size, "bicubic")
            spread = whole.max() - whole.min()
            grey = (whole - whole.min()) / spread if spread else np.zeros_like(whole)
            found.append(
                {
                    "predicted_depth": whole.astype(np.float32),
                    "depth": Image.fromarray((grey * 255).astype(np.uint8)),
                }
            )
        return found

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the grey image; its margin is half a step of 255, so that no pixel changes by more than one step."""
        made = []
        for index, depth in enumerate(outputs["predicted_depth"]):
            least, most = float(depth.min()), float(depth.max())
            margin = np.asarray((most - least) / 255 / 2)
            made.append(Decision("depth", [least, most], "predicted_depth", index, margin))
        return made


TASK = DepthEstimation()
