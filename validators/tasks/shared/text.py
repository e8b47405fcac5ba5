"""Helpers of tasks on text: cases and tokenization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import (
    Array,
    Arrays,
    CallOption,
    Case,
    Sample,
    SampleValue,
    TokenizerOutput,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import take_cyclic

LONG_PROMPT_TOKENS = 500
"""Length of the long prompt in tokens: short prompts hide errors of positions and masks."""

EXTRA_PADDING_TOKENS = 5
"""Tokens of padding beyond the longest text of a batch."""


def text_cases(model: ModelFolder, samples: Sequence[Sample], field: str = "text") -> list[Case]:
    """Returns cases of one text, of three with different lengths, of three with extra padding, and of a long one."""
    three = take_cyclic(samples, 3)
    long = {**samples[0], field: repeat_text(str(samples[0][field]))}
    return [
        Case("single", (samples[0],)),
        Case("batch", three),
        Case("padded", three, {"extra_padding": EXTRA_PADDING_TOKENS}),
        Case("long", (long,), {"max_tokens": max_tokens(model)}),
    ]


def repeat_text(text: str) -> str:
    """Repeats a text until it has as many words as the long case has tokens."""
    return " ".join([text] * -(-LONG_PROMPT_TOKENS // max(len(text.split()), 1)))


def max_tokens(model: ModelFolder) -> int:
    """Returns the number of tokens of the long case: 500, or the model's maximum if that is less."""
    names = ("max_position_embeddings", "n_positions", "max_source_positions")
    configs = (model.config, model.config.get("text_config") or {})
    limits = [
        int(part[name]) for part in configs for name in names if isinstance(part.get(name), int)
    ]
    # RoBERTa and similar models number positions from the padding id + 1 on.
    offset = int(model.config.get("pad_token_id") or 0) + 1 if limits else 0
    if model.model_type not in _OFFSET_POSITIONS:
        offset = 0
    tokenizer_limit = min(
        int(getattr(model.tokenizer, "model_max_length", LONG_PROMPT_TOKENS)), LONG_PROMPT_TOKENS
    )
    return (
        min(tokenizer_limit, *(count - offset for count in limits)) if limits else tokenizer_limit
    )


_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "camembert", "longformer", "xlm-roberta-xl", "mpnet", "data2vec-text",
     "layoutlmv3", "esm", "ibert", "roberta-prelayernorm", "xmod", "xlm-roberta-flash"}
)  # fmt: skip


def tokenize(model: ModelFolder, case: Case, *texts: SampleValue, **options: CallOption) -> Arrays:
    """Tokenizes texts (or pairs of them) to int64 arrays, padded as the options of the case say."""
    encoding = encode_texts(model, case, *texts, **options)
    return {name: to_int64(np.asarray(value)) for name, value in encoding.items()}


def encode_texts(
    model: ModelFolder, case: Case, *texts: SampleValue, **options: CallOption
) -> TokenizerOutput:
    """Returns the output of the tokenizer: arrays, and the words and offsets of tokens."""
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    length = case.options.get("max_tokens") or max_tokens(model)
    single = len(texts[0]) == 1 and not case.options.get("extra_padding")
    call_options = {
        "padding": not single,
        "truncation": True,
        "max_length": length,
        "return_tensors": "np",
        "padding_side": case.options.get("padding_side", tokenizer.padding_side),
        **options,
    }
    encoding = _call_tokenizer(tokenizer, texts, call_options)
    extra = int(case.options.get("extra_padding", 0))
    if not extra:
        return encoding
    width = encoding["input_ids"].shape[1]
    padding_options = {"padding": "max_length", "max_length": min(width + extra, length)}
    if "stride" in call_options and width < length:
        # Nothing is truncated, so no parts overlap; a stride longer than the text is an error.
        padding_options["stride"] = 0
    return _call_tokenizer(tokenizer, texts, {**call_options, **padding_options})


def _call_tokenizer(
    tokenizer: Tokenizer, texts: Sequence[SampleValue], options: dict[str, CallOption]
) -> TokenizerOutput:
    try:
        return tokenizer(*texts, **options)
    except Exception as error:
        if type(error) is not Exception:  # the library tokenizers has no class of its own
            raise
        raise InputError(
            f"the tokenizer refuses a text: {error}",
            expected=f"at most {options['max_length']} tokens",
            hint="shorten the text that must not be cut: a question, a label or its template",
        ) from error


def token_mask(arrays: Arrays) -> Array:
    """Returns which tokens are no padding."""
    ids = arrays["input_ids"]
    return np.asarray(arrays.get("attention_mask", np.ones_like(ids)) == 1)


def to_int64(value: Array) -> Array:
    """Converts integers to int64, which models expect."""
    return value.astype(np.int64) if value.dtype.kind in "iub" else value
