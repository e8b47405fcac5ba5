"""Text generation: continues a text or a chat."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import (
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
    SampleValue,
    TokenIds,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.generation import (
    generate_text,
    generation_cases,
    token_decisions,
)
from equipoise.validators.tasks.shared.text import tokenize


class TextGeneration:
    """Decoder-only language models."""

    name = "text-generation"
    aliases = ()
    auto_class = "AutoModelForCausalLM"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a causal language model that accepts only text."""
        return (
            model.class_name.endswith(("ForCausalLM", "LMHeadModel"))
            and not model.config.get("is_encoder_decoder")
            and model.model_type not in _MASKED_LM_TYPES
            and model.model_type != "git"
            and model.has_tokenizer
            and not model.has_image_processor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns prompts of different lengths."""
        return [
            {"text": "Once upon a time there was"},
            {"text": "The"},
            {"text": "The train to Berlin was late again, so we sat down in the small café and"},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`."""
        return generation_cases(model, samples, "text", "left")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts, padded on the left; chats through the tokenizer's chat template."""
        texts = [_prompt(model, sample["text"]) for sample in case.samples]
        chat = any(not isinstance(sample["text"], str) for sample in case.samples)
        left = Case(case.name, case.samples, {"side": "left", **case.options})
        # The chat template contains the special tokens.
        options = {"add_special_tokens": False} if chat else {}
        arrays = tokenize(model, left, texts, **options)
        arrays.pop("token_type_ids", None)
        return Batch(case, arrays, context={"decoder_only": True})

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"generated_text"}]``; with ``return_full_text=False`` only the new text."""
        tokenizer = model.tokenizer
        found = []
        for index, sample in enumerate(batch.case.samples):
            given = _decode(tokenizer, batch.arrays["input_ids"][index])
            new: Answer = _decode(tokenizer, outputs["sequences"][index])[len(given) :]
            if options.get("return_full_text", True):
                new = _append_text(sample["text"], new)
            found.append([{"generated_text": new}])
        return found

    decisions = token_decisions


_MASKED_LM_TYPES = frozenset({"xlm", "flaubert"})
"""Model types whose LMHeadModel is a masked language model."""


def _decode(tokenizer: Tokenizer, ids: TokenIds) -> str:
    # pipeline() removes spaces before punctuation.
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True))


def _prompt(model: ModelFolder, text: SampleValue) -> str:
    if isinstance(text, str):
        return text
    own = text[-1]["role"] == "assistant"
    return str(
        model.tokenizer.apply_chat_template(
            text, tokenize=False, add_generation_prompt=not own, continue_final_message=own
        )
    )


def _append_text(prompt: SampleValue, new: str) -> Answer:
    if isinstance(prompt, str):
        return prompt + new
    *before, last = prompt
    if last["role"] == "assistant":
        return [*before, {"role": "assistant", "content": last["content"] + new}]
    return [*prompt, {"role": "assistant", "content": new}]


TASK = TextGeneration()
