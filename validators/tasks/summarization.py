"""Summarization: shortens a text."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.generation import (
    decode_texts,
    generate_text,
    generation_cases,
    token_decisions,
)
from equipoise.validators.tasks.shared.seq2seq import (
    is_text_to_text_model,
    is_translation_model,
    tokenize_texts,
)


class Summarization:
    """Encoder-decoder models that are not made to translate."""

    name = "summarization"
    aliases = ("text2text-generation",)
    auto_class = "AutoModelForSeq2SeqLM"

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

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`."""
        return generation_cases(model, samples, "text")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts with the prefix that the config names for the task."""
        return Batch(case, tokenize_texts(model, case, "summarization"))

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"summary_text"}]``."""
        return [[{"summary_text": text}] for text in decode_texts(model.tokenizer, outputs)]

    decisions = token_decisions


TASK = Summarization()
