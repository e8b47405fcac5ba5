"""Text generation: continues a text or a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
    SampleValue,
    TokenIds,
)
from equipoise.validators.generation.generate import generation_settings
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.parameters.declarations import TOKENIZER
from equipoise.validators.tasks._chat import continues_last, encode_chat
from equipoise.validators.tasks.shared.generation import (
    decode_call,
    generate_text,
    generation_cases,
    rows_of_samples,
    token_decisions,
    with_stop_sequence,
)
from equipoise.validators.tasks.shared.text import (
    check_positions,
    tokenize,
    with_tokenizer_options,
)

_TOKENIZER_OPTIONS = ("truncation", "padding", "max_length", "add_special_tokens")


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
        if PIPELINE in case.options:
            return _encode_call(model, case)
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
        """Returns ``[{"generated_text"}]``, one for each text; ``return_full_text=False``: the new text; ``return_tensors``: ids.

        Raises:
            InputError: Two options exclude each other.
        """
        _check_exclusive(options)
        answers = []
        rows = rows_of_samples(batch, outputs)
        for index, sample in enumerate(batch.case.samples):
            if options.get("return_tensors") is not None:
                answers.append([{"generated_token_ids": row.tolist()} for row in rows[index]])
                continue
            prompt = () if batch.context.get("is_empty") else batch.arrays["input_ids"][index]
            prompt_length = len(_decode(model.tokenizer, prompt, options))
            texts = [_decode(model.tokenizer, row, options)[prompt_length:] for row in rows[index]]
            full = options.get("return_full_text")
            if full is None or full:
                texts = [_append_text(sample["text"], text, batch.case) for text in texts]
            answers.append([{"generated_text": text} for text in texts])
        return answers

    decisions = token_decisions


_MASKED_LM_TYPES = frozenset({"xlm", "flaubert"})
"""Model types whose LMHeadModel is a masked language model."""


def _encode_call(model: ModelFolder, case: Case) -> Batch:
    """Tokenizes the prompt of a call of ``pipeline()``: nothing is cut unless its options say so."""
    case = with_tokenizer_options(case, *_TOKENIZER_OPTIONS)
    case = with_stop_sequence(model, case, every_token=True)
    case, prefix = _with_prefix(model, case)
    given = case.options.get("tokenizer_encode_kwargs") or {}
    (sample,) = case.samples
    if isinstance(sample["text"], str):
        arrays = tokenize(model, case, [prefix + str(sample["text"])], **given)
    else:
        arrays = _encode_chat(model, case, sample["text"], given)
    arrays.pop("token_type_ids", None)
    if case.options.get("handle_long_generation") == "hole":
        arrays = _leave_room(model, case, arrays)
    is_empty = not arrays["input_ids"].shape[1]
    if is_empty:
        arrays = _start_token(model, case, sample["text"])
    check_positions(model, arrays["input_ids"].shape[1])
    return Batch(case, arrays, context={"decoder_only": True, "is_empty": is_empty})


def _start_token(model: ModelFolder, case: Case, prompt: SampleValue) -> Arrays:
    """Returns what stands for a prompt without tokens: the token that begins a text.

    Raises:
        InputError: The model has no such token.
    """
    token = case.options.get("bos_token_id", model.generation_config.get("bos_token_id"))
    if token is None:
        raise InputError(
            "the prompt has no token, and the model has none that begins a text",
            file=model.path,
            found=str(prompt),
        )
    return {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, 1), np.int64)}


def _with_prefix(model: ModelFolder, case: Case) -> tuple[Case, str]:
    """Returns the text before the prompt; a maximal length of the call counts without it."""
    prefix = case.options.get("prefix", model.config.get("prefix")) or ""
    if not prefix or "max_new_tokens" in case.options:
        return case, str(prefix)
    special = bool(case.options.get("add_special_tokens"))
    more = len(model.tokenizer(str(prefix), add_special_tokens=special)["input_ids"])
    length = case.options.get("max_length") or generation_settings(model, case.options).max_length
    changed = {**case.options, "max_length": int(length or 20) + more}
    if "min_length" in changed and "min_new_tokens" not in changed:
        changed["min_length"] += more
    return replace(case, options=changed), str(prefix)


def _encode_chat(
    model: ModelFolder, case: Case, messages: Any, given: dict[str, CallOption]
) -> Arrays:
    """Renders and tokenizes a chat.

    Raises:
        InputError: There is no template, or an option that the pipeline sets is given.
    """
    options = {**case.options.get(TOKENIZER, {}), **given}
    options.pop("add_special_tokens", None)
    if {"add_generation_prompt", "continue_final_message"} & set(given):
        raise InputError(
            "the pipeline sets add_generation_prompt", hint="continue_final_message=true"
        )
    return encode_chat(model, case, model.tokenizer, messages, **options)


def _leave_room(model: ModelFolder, case: Case, arrays: Arrays) -> Arrays:
    """Cuts the prompt on the left so that the new tokens fit into the tokenizer's limit.

    Raises:
        InputError: They would not fit without a prompt either.
    """
    length, limit = arrays["input_ids"].shape[1], int(model.tokenizer.model_max_length)
    new = case.options.get("max_new_tokens")
    if new is None:
        total = case.options.get("max_length", generation_settings(model, {}).max_length)
        new = int(total or 20) - length
    if new < 0:
        raise InputError("it is not known how many tokens are new", hint="max_new_tokens")
    if length + new <= limit:
        return arrays
    if limit <= new:
        raise InputError(
            f"{new} new tokens do not fit into the tokenizer's limit of {limit}",
            hint="max_new_tokens",
        )
    return {name: value[:, new - limit :] for name, value in arrays.items()}


def _check_exclusive(options: dict[str, CallOption]) -> None:
    names = ("return_text", "return_full_text", "return_tensors")
    given = [name for name in names if options.get(name) is not None]
    if len(given) > 1:
        raise InputError("only one of these options can be given", found=", ".join(given))


def _decode(tokenizer: Tokenizer, ids: TokenIds, options: Mapping[str, CallOption]) -> str:
    # pipeline() removes spaces before punctuation.
    return decode_call(tokenizer, ids, options, clean_up=True)


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


def _append_text(prompt: SampleValue, new: str, case: Case) -> Answer:
    if isinstance(prompt, str):
        return prompt + new
    *earlier, last = prompt
    if continues_last(case, prompt):
        return [*earlier, {"role": last["role"], "content": last["content"] + new}]
    return [*prompt, {"role": "assistant", "content": new}]


TASK = TextGeneration()
