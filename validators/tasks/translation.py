"""Translation: translates a text."""

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


class Translation:
    """Marian and similar models, and T5 if its config or prefix is that of translation."""

    name = "translation"
    aliases = ()
    auto_class = "AutoModelForSeq2SeqLM"

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

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`."""
        return generation_cases(model, samples, "text")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts with the prefix that the config names for the task."""
        return Batch(case, tokenize_texts(model, case, "translation"))

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"translation_text"}]``."""
        return [[{"translation_text": text}] for text in decode_texts(model.tokenizer, outputs)]

    decisions = token_decisions


TASK = Translation()
