"""Zero-shot image classification: scores which label describes an image."""

from __future__ import annotations

from collections.abc import Sequence

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
from equipoise.validators.tasks.shared.contrastive import (
    best_label_decisions,
    encode_pairs,
    rank_labels,
)
from equipoise.validators.tasks.shared.images import (
    image_cases,
    preprocess_images,
    synthetic_image_samples,
)

DEFAULT_TEMPLATE = "This is a photo of {}."
"""Text of a label; the default of pipeline()."""

LOGITS_NAME = "logits_per_image"


class ZeroShotImageClassification:
    """CLIP and similar models."""

    name = "zero-shot-image-classification"
    aliases = ()
    auto_class = "AutoModelForZeroShotImageClassification"

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
        """Returns the cases of :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images or audio of all samples and the texts of all labels."""
        return encode_pairs(
            model, case, preprocess_images(model, case.samples), DEFAULT_TEMPLATE, LOGITS_NAME
        )

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the labels with their scores, most probable first."""
        return rank_labels(model, batch, outputs[LOGITS_NAME])

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the best label of every sample."""
        return best_label_decisions(batch, LOGITS_NAME, outputs[LOGITS_NAME])


TASK = ZeroShotImageClassification()
