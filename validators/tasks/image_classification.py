"""Image classification: labels of an image."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import (
    image_cases,
    preprocess_images,
    synthetic_image_samples,
)
from equipoise.validators.tasks.shared.labels import (
    DEFAULT_TOP_K,
    activation_name,
    classify,
    label_decisions,
)


class ImageClassification:
    """Vision models with a classification head."""

    name = "image-classification"
    aliases = ()
    auto_class = "AutoModelForImageClassification"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an image classification class."""
        return model.class_name.endswith(
            ("ForImageClassification", "ForImageClassificationWithTeacher")
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images."""
        return Batch(case, preprocess_images(model, case.samples))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the ``top_k`` (5) best labels; option ``function_to_apply``."""
        function = options.get("function_to_apply") or activation_name(model)
        return classify(model, outputs["logits"], function, options.get("top_k", DEFAULT_TOP_K))

    decisions = label_decisions


TASK = ImageClassification()
