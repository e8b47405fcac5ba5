"""Image classification: labels of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.validators.core.types import Arrays
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Batch, Case, Sample, one_forward
from equipoise.validators.tasks.shared.images import drawn_samples, image_cases, pixels
from equipoise.validators.tasks.shared.labels import TOP, best_labels, function_of, label_decisions


class ImageClassification:
    """Vision models with a classifier."""

    name = "image-classification"
    aliases = ()
    auto_class = "AutoModelForImageClassification"

    def suits(self, model: ModelFolder) -> bool:
        """A classifier of pictures."""
        return model.class_name.endswith(
            ("ForImageClassification", "ForImageClassificationWithTeacher")
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures."""
        return drawn_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels of the pictures."""
        return Batch(case, pixels(model, case.samples))

    run = one_forward

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """The ``top_k`` (5) best labels; option ``function_to_apply``."""
        function = options.get("function_to_apply") or function_of(model)
        return best_labels(model, outputs["logits"], function, options.get("top_k", TOP))

    decisions = label_decisions


TASK = ImageClassification()
