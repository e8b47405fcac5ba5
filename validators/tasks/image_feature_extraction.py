"""Image feature extraction: the hidden states of an image."""

from __future__ import annotations

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Decision
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import ImageTask


class ImageFeatureExtraction(ImageTask):
    """Vision base models without a head."""

    name = "image-feature-extraction"
    auto_class = "AutoModel"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a base model with an image processor and without a text tower."""
        return (
            model.class_name.endswith(("Model", "Backbone"))
            and model.has_image_processor
            and not model.class_name.endswith(("EncoderDecoderModel", "ForImageClassification"))
            and "text_config" not in model.config
            and not model.has_tokenizer
            and model.model_type not in ("sam", "sam2", "sam_hq")
        )

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the vectors of the patches as nested lists; with ``pool`` the pooled vector; ``return_tensors``: arrays.

        Raises:
            InputError: The model has no pooled vector.
        """
        if options.get("pool") and "pooler_output" not in outputs:
            raise InputError(
                "the model has no pooled vector", file=model.path, hint="leave pool out"
            )
        first = "last_hidden_state" if "last_hidden_state" in outputs else next(iter(outputs))
        name = "pooler_output" if options.get("pool") else first
        if options.get("return_tensors"):
            return [row[None] for row in outputs[name]]
        return [[row.tolist()] for row in outputs[name]]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns no decisions: how the vectors are used is not known here."""
        return []


TASK = ImageFeatureExtraction()
