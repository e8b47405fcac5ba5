"""Translation: says a text in another language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.validators.core.types import Arrays
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Batch, Case, Sample
from equipoise.validators.tasks.shared.generation import choices, texts_of, write, writing_cases
from equipoise.validators.tasks.shared.seq2seq import text_tokens, translates, writes_text


class Translation:
    """Marian and its like, and T5 whose config or prefix says so."""

    name = "translation"
    aliases = ()
    auto_class = "AutoModelForSeq2SeqLM"

    def suits(self, model: ModelFolder) -> bool:
        """An encoder with a decoder for text that is made to translate."""
        return writes_text(model) and translates(model)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Texts of unequal length."""
        texts = (
            "The house is small.",
            "Good morning!",
            "My brother has lived in Berlin for ten years, but he speaks no German.",
        )
        return [{"text": text} for text in texts]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`writing_cases`."""
        return writing_cases(model, samples, "text")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokens of the texts behind the prefix that the config names for the task."""
        return Batch(case, text_tokens(model, case, "translation"))

    run = write

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """``[{"translation_text"}]``."""
        return [[{"translation_text": text}] for text in texts_of(model.tokenizer, outputs)]

    decisions = choices


TASK = Translation()
