"""Helpers of tasks on text: cases and tokenization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import JsonValue, Tokenizer
from equipoise.validators.core.types import (
    PIPELINE,
    Array,
    Arrays,
    CallOption,
    Case,
    Sample,
    SampleValue,
    TokenizerOutput,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.positions import (
    OFFSET_BY_PADDING,
    encoder_positions,
    find_sizes,
)
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.parameters.declarations import TOKENIZER

UNLIMITED_TOKENS = 500
"""Length of the long case in tokens for a model that states no limit."""

LONG_CASE_OPERATIONS = 4 * 10**11
"""Largest number of multiplications in one forward pass of the long case: about 25 seconds of two cores in float64."""

LONG_CASE_SCORE_BYTES = 1 << 31
"""Largest memory of one layer's attention scores in the long case, in float64 with two copies."""

POWER_OF_TWO = 64
"""Kernels work on blocks of a power of two: a text of one token more, or one fewer, shows what they do with the rest."""

SECOND_SEGMENT = "second_segment"
"""Option of a case: the second half of each text has the token type 1, which texts without a pair never have."""

EXTRA_PADDING_TOKENS = 5
"""Tokens of padding beyond the longest text of a batch."""


def text_cases(model: ModelFolder, samples: Sequence[Sample], field: str = "text") -> list[Case]:
    """Returns cases of one text, of three with different lengths and with extra padding, and of three given lengths.

    These are one token fewer than a power of two, its second half a segment of its own where the model has token types;
    one token more; and the longest that the model takes.
    """
    three = take_cyclic(samples, 3)
    block = block_length(model)
    return [
        Case("single", (samples[0],)),
        Case("batch", three),
        Case("padded", three, {"extra_padding": EXTRA_PADDING_TOKENS}),
        Case(
            "below-power",
            (repeat_text(samples[0], field, block),),
            {"max_tokens": block - 1, SECOND_SEGMENT: True},
        ),
        Case("above-power", (repeat_text(samples[0], field, block),), {"max_tokens": block + 1}),
        long_case(model, samples[0], field),
    ]


def long_case(
    model: ModelFolder, sample: Sample, field: str, options: Mapping[str, CallOption] | None = None
) -> Case:
    """Returns the case of the longest text that the model takes, or that one forward pass can be run on in time."""
    longest = max_tokens(model)
    length = min(longest, affordable_tokens(model))
    return Case(
        "long",
        (repeat_text(sample, field, length),),
        {"max_tokens": length, **(options or {})},
        note=f"its text has {length} tokens; the model takes {longest}" if length < longest else "",
    )


def repeat_text(sample: Sample, field: str, length: int) -> Sample:
    """Returns a sample whose text is repeated until it has more words than ``length``."""
    text = str(sample[field])
    return {**sample, field: " ".join([text] * (1 + length // max(len(text.split()), 1)))}


def block_length(model: ModelFolder) -> int:
    """Returns a power of two: 64, or the largest that is smaller than the longest text of the model."""
    length = POWER_OF_TWO
    while length > 2 and length >= max_tokens(model):
        length //= 2
    return length


def max_tokens(model: ModelFolder) -> int:
    """Returns the number of tokens that the model takes: 500 if neither its config nor its tokenizer states a limit."""
    configs = (model.config, model.config.get("text_config") or {})
    limits = find_sizes(configs, "max_position_embeddings", "n_positions", "max_source_positions")
    # RoBERTa and similar models number positions from the padding id + 1 on.
    offset = int(model.config.get("pad_token_id") or 0) + 1 if limits else 0
    if model.model_type not in OFFSET_BY_PADDING:
        offset = 0
    maxima = [count - offset for count in limits]
    tokenizer_limit = int(getattr(model.tokenizer, "model_max_length", _NO_LIMIT))
    if tokenizer_limit < _NO_LIMIT:
        maxima.append(tokenizer_limit)
    return min(maxima) if maxima else UNLIMITED_TOKENS


_NO_LIMIT = 10**9
"""Tokenizers without a limit of their own have a very large number."""


def affordable_tokens(model: ModelFolder) -> int:
    """Returns the number of tokens for which one forward pass stays below the bounds of the long case.

    A pass over ``n`` tokens multiplies about ``2 * parameters * n + 4 * layers * width * n**2`` numbers, and its attention
    holds ``heads * n**2`` scores a layer.
    """
    config = {**model.config, **(model.config.get("text_config") or {})}
    parameters = model.weight_count
    quadratic = 4 * _first(config, "num_hidden_layers", "n_layer", "num_layers", "encoder_layers")
    quadratic *= _first(config, "hidden_size", "n_embd", "d_model", "dim")
    heads = _first(config, "num_attention_heads", "n_head", "num_heads", "encoder_attention_heads")
    by_memory = (LONG_CASE_SCORE_BYTES / (3 * 8 * heads)) ** 0.5
    by_time = ((parameters**2 + quadratic * LONG_CASE_OPERATIONS) ** 0.5 - parameters) / quadratic
    return max(int(min(by_memory, by_time)), 1)


def _first(config: Mapping[str, JsonValue], *names: str) -> int:
    """Returns the first of several numbers that a config has; 1 if it has none."""
    return next(iter(find_sizes((config,), *names)), 1)


def tokenize(model: ModelFolder, case: Case, *texts: SampleValue, **options: CallOption) -> Arrays:
    """Tokenizes texts (or pairs of them) to int64 arrays, padded as the options of the case say.

    Raises:
        InputError: They have different lengths, and the options of a call leave them so.
    """
    encoding = encode_texts(model, case, *texts, **options)
    lengths = {len(row) for row in encoding["input_ids"]}
    if len(lengths) > 1:
        raise InputError(
            f"texts of {min(lengths)} and {max(lengths)} tokens cannot be one batch",
            hint="leave padding out, or padding=true",
        )
    arrays = {name: to_int64(np.asarray(value)) for name, value in encoding.items()}
    types = arrays.get("token_type_ids")
    has_types = types is not None and int(model.config.get("type_vocab_size") or 0) > 1
    if case.options.get(SECOND_SEGMENT) and types is not None and has_types:
        types[:, types.shape[1] // 2 :] = 1
    return arrays


def encode_texts(
    model: ModelFolder, case: Case, *texts: SampleValue, **options: CallOption
) -> TokenizerOutput:
    """Returns the output of the tokenizer: arrays, and the words and offsets of tokens.

    A call of ``pipeline()`` cuts nothing unless its options say so.

    Raises:
        InputError: A text is longer than the model takes.
    """
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:  # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token or tokenizer.unk_token
    if PIPELINE in case.options:
        return _encode_call(model, case, texts, options)
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


def _encode_call(
    model: ModelFolder,
    case: Case,
    texts: Sequence[SampleValue],
    options: Mapping[str, CallOption],
) -> TokenizerOutput:
    """Tokenizes texts as a pipeline does, with the tokenizer's options of its call."""
    call_options = {
        "padding": len(texts[0]) > 1,
        "return_tensors": "np",
        "verbose": False,  # what is too long is refused below
        **options,
        **case.options.get(TOKENIZER, {}),
    }
    encoding = _call_tokenizer(model.tokenizer, texts, call_options)
    if case.options.get("handle_long_generation"):
        return encoding  # the prompt is cut afterwards
    check_positions(model, max(len(row) for row in encoding["input_ids"]))
    return encoding


def check_positions(model: ModelFolder, length: int) -> None:
    """Checks that the model has a position for each token of a text.

    Raises:
        InputError: The text is longer.
    """
    limit = encoder_positions(model)
    if limit is not None and length > limit:
        raise InputError(
            f"the text has {length} tokens, and the model takes {limit}",
            file=model.path,
            hint="shorten the text, or let the tokenizer cut it: docs/run.md says which option of a task does",
        )


def check_filled(case: Case, *fields: str) -> None:
    """Checks that no sample of a call has an empty field where ``pipeline()`` refuses it.

    Raises:
        InputError: A field is empty.
    """
    if PIPELINE not in case.options:
        return
    for field in fields:
        if any(not sample[field] for sample in case.samples):
            raise InputError(f"{field} is empty", hint=f"give a {field}")


def _call_tokenizer(
    tokenizer: Tokenizer, texts: Sequence[SampleValue], options: dict[str, CallOption]
) -> TokenizerOutput:
    try:
        return tokenizer(*texts, **options)
    except BaseException as error:
        # The library tokenizers has no class of its own; what it did not foresee is no Exception.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"the tokenizer refuses a text: {error}",
            expected=f"at most {options['max_length']} tokens"
            if options.get("max_length")
            else None,
            hint="shorten the text that must not be cut: a question, a label or its template",
        ) from error


def with_tokenizer_options(case: Case, *names: str) -> Case:
    """Returns a case in which options of the call are options of the tokenizer: ``truncation``, ``padding`` ..."""
    given = {name: case.options[name] for name in names if case.options.get(name) is not None}
    if not given:
        return case
    options = {**case.options, TOKENIZER: {**case.options.get(TOKENIZER, {}), **given}}
    return replace(case, options=options)


def token_mask(arrays: Arrays) -> Array:
    """Returns which tokens are no padding."""
    ids = arrays["input_ids"]
    return np.asarray(arrays.get("attention_mask", np.ones_like(ids)) == 1)


def to_int64(value: Array) -> Array:
    """Converts integers to int64, which models expect."""
    return value.astype(np.int64) if value.dtype.kind in "iub" else value
