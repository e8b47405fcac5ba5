"""Image classification: labels of an image."""

from __future__ import annotations

from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import ImageTask
from equipoise.validators.tasks.shared.labels import ClassificationTask, image_activation


class ImageClassification(ImageTask, ClassificationTask):
    """Vision models with a classification head."""

    name = "image-classification"
    auto_class = "AutoModelForImageClassification"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an image classification class."""
        return model.class_name.endswith(
            ("ForImageClassification", "ForImageClassificationWithTeacher")
        )

    run = run_single_pass

    def activation(self, model: ModelFolder) -> str:
        """Returns ``sigmoid`` for one label or multi-label models, else ``softmax``."""
        return image_activation(model)


TASK = ImageClassification()
