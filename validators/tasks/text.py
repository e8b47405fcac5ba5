"""What tasks on text share: how batches of it vary, and tokens as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.validators.model import ModelFolder
from equipoise.validators.runner import Array, Arrays
from equipoise.validators.tasks.base import Case, Sample, cycle

LONG = 500
"""Tokens of the long prompt: faults of positions and masks stay hidden in short ones."""

PADDING = 5
"""Tokens of padding beyond the longest text of a batch."""


def text_cases(model: ModelFolder, samples: Sequence[Sample], field: str = "text") -> list[Case]:
    """One text, three of unequal length, three padded further than needed, and a long one."""
    three = cycle(samples, 3)
    long = {**samples[0], field: " ".join([str(samples[0][field])] * LONG)}
    return [
        Case("single", (samples[0],)),
        Case("batch", three),
        Case("padded", three, {"extra": PADDING}),
        Case("long", (long,), {"limit": longest(model)}),
    ]


def longest(model: ModelFolder) -> int:
    """How many tokens the long case has: 500, or what the model can hold."""
    names = ("max_position_embeddings", "n_positions", "max_source_positions")
    held = [int(model.config[name]) for name in names if isinstance(model.config.get(name), int)]
    # RoBERTa and its kin count positions from the padding id on.
    offset = int(model.config.get("pad_token_id") or 0) + 1 if held else 0
    stated = min(int(getattr(model.tokenizer, "model_max_length", LONG)), LONG)
    return min(stated, *(count - offset for count in held)) if held else stated


def tokenize(model: ModelFolder, case: Case, *texts: list[str], **options: Any) -> Arrays:
    """Tokens of texts (or of pairs of them) as int64 arrays, padded as the case says."""
    limit = case.options.get("limit")
    tokenizer = model.tokenizer
    if "side" in case.options:
        tokenizer.padding_side = case.options["side"]
    single = len(texts[0]) == 1 and not case.options.get("extra")
    made = tokenizer(
        *texts,
        padding=not single,
        truncation=True,
        max_length=limit or longest(model),
        return_tensors="np",
        **options,
    )
    arrays = {name: np.asarray(value) for name, value in made.items()}
    return {name: _int64(value) for name, value in _pad(tokenizer, arrays, case).items()}


def _pad(tokenizer: Any, arrays: Arrays, case: Case) -> Arrays:
    extra = int(case.options.get("extra", 0))
    if not extra:
        return arrays
    length = arrays["input_ids"].shape[1] + extra
    padded = tokenizer.pad(arrays, padding="max_length", max_length=length, return_tensors="np")
    return {name: np.asarray(padded[name]) for name in arrays}


def _int64(value: Array) -> Array:
    return value.astype(np.int64) if value.dtype.kind in "iu" else value
