"""Zero-shot image classification: scores which label describes an image."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import (
    Arrays,
    Case,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.contrastive import ContrastiveTask, long_label_case
from equipoise.validators.tasks.shared.images import (
    image_cases,
    preprocess_images,
    synthetic_image_samples,
)


class ZeroShotImageClassification(ContrastiveTask):
    """CLIP and similar models."""

    name = "zero-shot-image-classification"
    auto_class = "AutoModelForZeroShotImageClassification"
    template = "This is a photo of {}."
    output = "logits_per_image"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a model with a text and a vision tower."""
        return (
            model.class_name.endswith("Model")
            and "vision_config" in model.config
            and "text_config" in model.config
            and model.has_tokenizer
            and model.has_image_processor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images with candidate labels."""
        return synthetic_image_samples(candidate_labels=["a red disc", "a green disc", "a cat"])

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases`, and one of a label as long as the model takes."""
        return [*image_cases(model, samples), long_label_case(model, samples[0])]

    run = run_single_pass

    def encode_media(self, model: ModelFolder, samples: Sequence[Sample]) -> Arrays:
        """Encodes the images."""
        return preprocess_images(model, samples)


TASK = ZeroShotImageClassification()
