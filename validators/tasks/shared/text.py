"""What tasks on text share: how batches of it vary, and tokens as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
"""Tokens of the long prompt: faults of positions and masks stay hidden in short ones."""

EXTRA_PADDING = 5
"""Tokens of padding beyond the longest text of a batch."""


def text_cases(model: ModelFolder, samples: Sequence[Sample], field: str = "text") -> list[Case]:
    """One text, three of unequal length, three padded further than needed, and a long one."""
    three = take_cyclic(samples, 3)
    long = {**samples[0], field: repeat_text(str(samples[0][field]))}
    return [
        Case("single", (samples[0],)),
        Case("batch", three),
        Case("padded", three, {"extra": EXTRA_PADDING}),
        Case("long", (long,), {"limit": max_tokens(model)}),
    ]


def repeat_text(text: str) -> str:
    """The text again and again, up to as many words as the long case has tokens."""
    return " ".join([text] * -(-LONG_PROMPT_TOKENS // max(len(text.split()), 1)))


def max_tokens(model: ModelFolder) -> int:
    """How many tokens the long case has: 500, or what the model can hold."""
    names = ("max_position_embeddings", "n_positions", "max_source_positions")
    configs = (model.config, model.config.get("text_config") or {})
    held = [
        int(part[name]) for part in configs for name in names if isinstance(part.get(name), int)
    ]
    # RoBERTa and its kin count positions from the padding id on.
    offset = int(model.config.get("pad_token_id") or 0) + 1 if held else 0
    if model.model_type not in _OFFSET_POSITIONS:
        offset = 0
    stated = min(
        int(getattr(model.tokenizer, "model_max_length", LONG_PROMPT_TOKENS)), LONG_PROMPT_TOKENS
    )
    return min(stated, *(count - offset for count in held)) if held else stated


_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "camembert", "longformer", "xlm-roberta-xl", "mpnet", "data2vec-text",
     "layoutlmv3", "esm", "ibert", "roberta-prelayernorm", "xmod", "xlm-roberta-flash"}
)  # fmt: skip


def tokenize(model: ModelFolder, case: Case, *texts: SampleValue, **options: CallOption) -> Arrays:
    """Tokens of texts (or of pairs of them) as int64 arrays, padded as the case says."""
    made = encode_texts(model, case, *texts, **options)
    return {name: to_int64(np.asarray(value)) for name, value in made.items()}


def encode_texts(
    model: ModelFolder, case: Case, *texts: SampleValue, **options: CallOption
) -> TokenizerOutput:
    """What the tokenizer returns: arrays, and where each token comes from."""
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    length = case.options.get("limit") or max_tokens(model)
    single = len(texts[0]) == 1 and not case.options.get("extra")
    given = {
        "padding": not single,
        "truncation": True,
        "max_length": length,
        "return_tensors": "np",
        "padding_side": case.options.get("side", tokenizer.padding_side),
        **options,
    }
    made = tokenizer(*texts, **given)
    extra = int(case.options.get("extra", 0))
    if not extra:
        return made
    width = made["input_ids"].shape[1]
    wider = {"padding": "max_length", "max_length": min(width + extra, length)}
    if "stride" in given and width < length:
        wider["stride"] = (
            0  # nothing is cut, so no parts overlap; a short text may not hold the stride
        )
    return tokenizer(*texts, **{**given, **wider})


def token_mask(arrays: Arrays) -> Array:
    """Which tokens are no padding."""
    ids = arrays["input_ids"]
    return np.asarray(arrays.get("attention_mask", np.ones_like(ids)) == 1)


def to_int64(value: Array) -> Array:
    """Whole numbers in the width that models take."""
    return value.astype(np.int64) if value.dtype.kind in "iub" else value
