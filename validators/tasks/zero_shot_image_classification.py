"""Zero-shot image classification: which sentence fits a picture."""

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
from equipoise.validators.tasks.shared.contrastive import encode_pairs, label_decision, rank_labels
from equipoise.validators.tasks.shared.images import (
    image_cases,
    preprocess_images,
    synthetic_image_samples,
)

DEFAULT_TEMPLATE = "This is a photo of {}."
"""pipeline()'s sentence around a label."""

LOGITS_NAME = "logits_per_image"


class ZeroShotImageClassification:
    """CLIP and its kin."""

    name = "zero-shot-image-classification"
    aliases = ()
    auto_class = "AutoModelForZeroShotImageClassification"

    def suits(self, model: ModelFolder) -> bool:
        """A tower for text and one for pictures, whose vectors are compared."""
        return (
            model.class_name.endswith("Model")
            and "vision_config" in model.config
            and "text_config" in model.config
            and model.has_tokenizer
            and model.has_image_processor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures, with labels for what is on them."""
        return synthetic_image_samples(candidate_labels=["a red disc", "a green disc", "a cat"])

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """The media of all samples and the texts of all labels."""
        return encode_pairs(
            model, case, preprocess_images(model, case.samples), DEFAULT_TEMPLATE, LOGITS_NAME
        )

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """The labels with their scores, from the likeliest on."""
        return rank_labels(model, batch, outputs[LOGITS_NAME])

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """The best label."""
        return label_decision(batch, LOGITS_NAME, outputs[LOGITS_NAME])


TASK = ZeroShotImageClassification()
