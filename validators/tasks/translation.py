"""Translation: translates a text."""

from __future__ import annotations

from equipoise.validators.core.types import Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.seq2seq import (
    TextToTextTask,
    is_text_to_text_model,
    is_translation_model,
)


class Translation(TextToTextTask):
    """Marian and similar models, and T5 if its config or prefix is that of translation."""

    name = "translation"
    aliases = ()
    answer_field = "translation_text"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an encoder-decoder model for text that is made to translate."""
        return is_text_to_text_model(model) and is_translation_model(model)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns texts of different lengths."""
        texts = (
            "The house is small.",
            "Good morning!",
            "My brother has lived in Berlin for ten years, but he speaks no German.",
        )
        return [{"text": text} for text in texts]


TASK = Translation()
