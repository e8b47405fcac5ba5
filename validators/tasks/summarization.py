"""Summarization: shortens a text."""

from __future__ import annotations

from equipoise.validators.core.types import Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.seq2seq import (
    TextToTextTask,
    is_text_to_text_model,
    is_translation_model,
)


class Summarization(TextToTextTask):
    """Encoder-decoder models that are not made to translate."""

    name = "summarization"
    aliases = ("text2text-generation",)
    answer_field = "summary_text"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an encoder-decoder model for text whose config is not that of translation."""
        return is_text_to_text_model(model) and not is_translation_model(model)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns texts of different lengths."""
        return [
            {
                "text": "The city council met on Monday. It decided to build a new bridge over the river."
            },
            {"text": "It rained all day."},
            {
                "text": "Anna moved to Oslo last year because of her work. She likes the sea and the "
                "mountains, but the winters are too dark for her, so she wants to go back home."
            },
        ]


TASK = Summarization()
