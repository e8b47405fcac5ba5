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
        is_chat = any(not isinstance(sample["text"], str) for sample in case.samples)
        left_padded = Case(case.name, case.samples, {"padding_side": "left", **case.options})
        # The chat template contains the special tokens.
        options = {"add_special_tokens": False} if is_chat else {}
        arrays = tokenize(model, left_padded, texts, **options)
        arrays.pop("token_type_ids", None)
        return Batch(case, arrays, context={"decoder_only": True})

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"generated_text"}]``; with ``return_full_text=False`` only the new text."""
        tokenizer = model.tokenizer
        answers = []
        for index, sample in enumerate(batch.case.samples):
            prompt_text = _decode(tokenizer, batch.arrays["input_ids"][index])
            new: Answer = _decode(tokenizer, outputs["sequences"][index])[len(prompt_text) :]
            if options.get("return_full_text", True):
                new = _append_text(sample["text"], new)
            answers.append([{"generated_text": new}])
        return answers

    decisions = token_decisions


_MASKED_LM_TYPES = frozenset({"xlm", "flaubert"})
"""Model types whose LMHeadModel is a masked language model."""


def _decode(tokenizer: Tokenizer, ids: TokenIds) -> str:
    # pipeline() removes spaces before punctuation.
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True))


def _prompt(model: ModelFolder, text: SampleValue) -> str:
    if isinstance(text, str):
        return text
    continues_answer = text[-1]["role"] == "assistant"
    return str(
        model.tokenizer.apply_chat_template(
            text,
            tokenize=False,
            add_generation_prompt=not continues_answer,
            continue_final_message=continues_answer,
        )
    )


def _append_text(prompt: SampleValue, new: str) -> Answer:
    if isinstance(prompt, str):
        return prompt + new
    *earlier, last = prompt
    if last["role"] == "assistant":
        return [*earlier, {"role": "assistant", "content": last["content"] + new}]
    return [*prompt, {"role": "assistant", "content": new}]


TASK = TextGeneration()
