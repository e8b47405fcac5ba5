"""Image feature extraction: the vectors of a picture."""

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
from equipoise.validators.tasks.shared.images import (
    image_cases,
    preprocess_images,
    synthetic_image_samples,
)


class ImageFeatureExtraction:
    """Base models of vision without a head."""

    name = "image-feature-extraction"
    aliases = ()
    auto_class = "AutoModel"

    def suits(self, model: ModelFolder) -> bool:
        """A base model with an image processor and no text beside."""
        return (
            model.class_name.endswith(("Model", "Backbone"))
            and model.has_image_processor
            and not model.class_name.endswith(("EncoderDecoderModel", "ForImageClassification"))
            and "text_config" not in model.config
            and not model.has_tokenizer
            and model.model_type not in ("sam", "sam2", "sam_hq")
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels of the pictures."""
        return Batch(case, preprocess_images(model, case.samples))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Vectors of the patches as nested lists; with ``pool`` the one of the whole."""
        first = "last_hidden_state" if "last_hidden_state" in outputs else next(iter(outputs))
        name = "pooler_output" if options.get("pool") else first
        return [[row.tolist()] for row in outputs[name]]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """None: nobody reads a vector, and what it is used for is not known here."""
        return []


TASK = ImageFeatureExtraction()
