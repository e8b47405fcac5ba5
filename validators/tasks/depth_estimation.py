"""Depth estimation: how far everything in a picture is."""

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
    """Models that give a number for every pixel."""

    name = "depth-estimation"
    aliases = ()
    auto_class = "AutoModelForDepthEstimation"

    def suits(self, model: ModelFolder) -> bool:
        """A model made for depth."""
        return model.class_name.endswith("ForDepthEstimation")

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels of the pictures, and their sizes."""
        arrays = preprocess_images(model, case.samples)
        return Batch(case, arrays, context=image_sizes(case.samples))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """``predicted_depth`` in the picture's size, and ``depth`` as a grey picture."""
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
        """The grey picture: half a step of its 255, under which no tone changes by more than one."""
        made = []
        for index, depth in enumerate(outputs["predicted_depth"]):
            least, most = float(depth.min()), float(depth.max())
            margin = np.asarray((most - least) / 255 / 2)
            made.append(Decision("depth", [least, most], "predicted_depth", index, margin))
        return made


TASK = DepthEstimation()
