"""Helpers of tasks that generate text: cases, the generation loop, margins of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import (
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
    Sample,
    TokenIds,
)
from equipoise.validators.generation.decoder_inputs import left_padding
from equipoise.validators.generation.generate import (
    generate,
    generated_tokens,
    generation_settings,
    greedy_margins,
)
from equipoise.validators.generation.settings import GenerationSettings
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.positions import DECODER_FIELDS, find_sizes
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.tasks.shared.text import (
    UNLIMITED_TOKENS,
    affordable_tokens,
    block_length,
    long_case,
    max_tokens,
    repeat_text,
)

NUM_BEAMS = 4

STEPS_OVER_POWER = 3

LOOP_WEIGHTS = 3 * 10**9
"""Largest number of weights that the forward passes of one loop use together: a model of 0.6 billion parameters generates 5 tokens."""

FEWEST_STEPS = 3
"""A loop generates at least this many tokens, however large the model is: the cache is read twice."""

DECODER_TOKENS = "decoder_tokens"
"""Option of a case: how many tokens the decoder continues from."""


def generation_cases(
    model: ModelFolder,
    samples: Sequence[Sample],
    field: str | None = None,
    padding_side: str | None = None,
) -> list[Case]:
    """Returns cases of greedy and beam search, with and without cache, of one and three samples, and of a long text.

    Args:
        model: The model's folder.
        samples: Samples of different lengths.
        field: The field that contains text; None: no case has a long text.
        padding_side: ``left`` for a decoder-only model, which continues from the end of the text.
    """
    shared_options: dict[str, CallOption] = {"padding_side": padding_side} if padding_side else {}
    if padding_side and field:
        shared_options["max_tokens"] = _max_prompt_tokens(model)
    affordable, note = _affordable_steps(model)
    if affordable:
        shared_options["max_new_tokens"] = affordable
    one, three = (samples[0],), take_cyclic(samples, 3)
    cases = [
        Case("greedy", one, {**shared_options, "num_beams": 1}, note=note),
        Case("greedy-cache", one, {**shared_options, "num_beams": 1, "cache": True}),
        Case("beam", one, {**shared_options, "num_beams": NUM_BEAMS}),
        Case("beam-cache", one, {**shared_options, "num_beams": NUM_BEAMS, "cache": True}),
        Case("batch", three, {**shared_options, "num_beams": 1}),
        Case("batch-cache", three, {**shared_options, "num_beams": 1, "cache": True}),
        Case("batch-beam-cache", three, {**shared_options, "num_beams": NUM_BEAMS, "cache": True}),
    ]
    if field:
        greedy = {**shared_options, "num_beams": 1}
        # Three steps from one token fewer than a power of two on: the lengths around it, with and without a cache.
        block = block_length(model)
        prompt = (repeat_text(samples[0], field, block),)
        steps = {**greedy, "max_tokens": block - 1, "max_new_tokens": STEPS_OVER_POWER}
        cases += [
            Case("over-power", prompt, steps),
            Case("over-power-cache", prompt, {**steps, "cache": True}),
            long_case(model, samples[0], field, {**greedy, "cache": True}),
        ]
    return cases


def _affordable_steps(model: ModelFolder) -> tuple[int, str]:
    """Returns how many tokens the loops of a large model generate, and a note; 0 where its config decides."""
    usual = generation_settings(model, {}).max_total_length(0)
    steps = max(LOOP_WEIGHTS // max(model.weight_count, 1), FEWEST_STEPS)
    if steps >= usual:
        return 0, ""
    return (
        steps,
        f"as in all cases that generate, {steps} tokens; the generation config allows {usual}",
    )


def long_answer_case(model: ModelFolder, sample: Sample) -> Case:
    """Returns the case of a decoder that continues from an answer nearly as long as its positions: the last ones are used.

    Two tokens are generated, with a cache.
    """
    steps = 2
    parts = [model.config.get(name) or {} for name in ("decoder", "text_config")]
    limits = find_sizes((*parts, model.config), *DECODER_FIELDS)
    longest = min(limits[0] if limits else UNLIMITED_TOKENS, affordable_tokens(model))
    options = {"num_beams": 1, "cache": True, "max_new_tokens": steps}
    return Case("long-answer", (sample,), {**options, DECODER_TOKENS: longest - steps})


def with_long_answer(model: ModelFolder, case: Case, arrays: Arrays) -> Arrays:
    """Extends ``decoder_input_ids`` (rows, tokens) to the length that a case asks for, by tokens of the vocabulary in turn."""
    length = int(case.options.get(DECODER_TOKENS, 0))
    if not length:
        return arrays
    rows = len(case.samples)
    start = model.generation_config.get("decoder_start_token_id")
    given = arrays.get("decoder_input_ids", np.full((rows, 1), start or 0, dtype=np.int64))
    tokenizer = model.tokenizer
    ids = [one for one in range(len(tokenizer)) if one not in set(tokenizer.all_special_ids)]
    more = np.resize(np.asarray(ids, dtype=np.int64), max(length - given.shape[1], 0))
    return {**arrays, "decoder_input_ids": np.hstack([given, np.tile(more, (rows, 1))])}


def _max_prompt_tokens(model: ModelFolder) -> int:
    """Returns how long a prompt may be so that the new tokens fit, but at least a quarter of the maximal length."""
    length = max_tokens(model)
    return max(length - generation_settings(model, {}).max_total_length(0), length // 4)


def generate_text(
    self: object, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
) -> Arrays:
    """:meth:`Task.run` of a task that generates text."""
    options = batch.case.options
    return generate(runner, model, batch.arrays, options, follow, **batch.kwargs)


def prompt_length(batch: Batch) -> int:
    """Returns how many leading tokens of the sequences belong to the prompt."""
    if "decoder_input_ids" in batch.arrays:
        return int(batch.arrays["decoder_input_ids"].shape[1])
    decoder_only = bool(batch.context and batch.context.get("decoder_only"))
    return int(batch.arrays["input_ids"].shape[1]) if decoder_only else 1


def token_decisions(
    self: object, model: ModelFolder, batch: Batch, outputs: Arrays
) -> list[Decision]:
    """:meth:`Task.decisions` of a task that generates text: every token, or for beam search every text as a whole."""
    settings = generation_settings(model, batch.case.options)
    generated = generated_tokens(settings, outputs["sequences"], prompt_length(batch))
    if settings.num_beams == 1:
        margins = greedy_margins(
            settings, outputs["sequences"], outputs["logits"], _left_padding(batch)
        )
        return [
            Decision("tokens", tokens, "logits", (index, slice(0, len(tokens))), margins[index])
            for index, tokens in enumerate(generated)
        ]
    return [
        _beam_decision(settings, outputs, index, tokens) for index, tokens in enumerate(generated)
    ]


def _left_padding(batch: Batch) -> Array | None:
    return left_padding(batch.arrays) if batch.context and "decoder_only" in batch.context else None


def _beam_decision(
    settings: GenerationSettings, outputs: Arrays, index: int, tokens: list[int]
) -> Decision:
    # Two scores can swap if each moves by half their difference.
    margin = outputs["sequences_gaps"][index] / 2
    return Decision("text", tokens, "sequences_scores", index, margin)


def with_stop_sequence(model: ModelFolder, case: Case, *, every_token: bool = False) -> Case:
    """Returns a case whose option ``stop_sequence`` has become end tokens: its first token, or every one."""
    text = case.options.get("stop_sequence")
    if text is None:
        return case
    ids = model.tokenizer.encode(str(text), add_special_tokens=False)
    return replace(case, options={**case.options, "eos_token_id": ids if every_token else ids[:1]})


def rows_of_samples(batch: Batch, outputs: Arrays) -> list[Array]:
    """Returns the sequences of each sample (texts, tokens): several where the call asks for them."""
    return np.split(outputs["sequences"], len(batch.case.samples))


def decode_texts(
    tokenizer: Tokenizer, outputs: Arrays, *, clean_up: bool | None = None
) -> list[str]:
    """Returns the sequences as texts, without special tokens."""
    return [decode_text(tokenizer, row, clean_up=clean_up) for row in outputs["sequences"]]


def decode_text(
    tokenizer: Tokenizer, ids: TokenIds, *, skip_special: bool = True, clean_up: bool | None = None
) -> str:
    """Returns tokens as a text.

    Args:
        tokenizer: The model's tokenizer.
        ids: The tokens of one text.
        skip_special: Whether special tokens are left out.
        clean_up: Whether spaces before punctuation are removed, as transformers 4.57.6 does for every tokenizer; None: as the
            tokenizer's config says.
    """
    if clean_up is None:
        clean_up = bool(tokenizer.clean_up_tokenization_spaces)
    text = str(
        tokenizer.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
    )
    for before, after in _CLEANED if clean_up else ():
        text = text.replace(before, after)
    return text


def decode_call(
    tokenizer: Tokenizer,
    ids: TokenIds,
    options: Mapping[str, CallOption],
    *,
    clean_up: bool | None = None,
) -> str:
    """Returns tokens as a text, as the options ``skip_special_tokens`` and ``clean_up_tokenization_spaces`` of a call say.

    Args:
        tokenizer: The model's tokenizer.
        ids: The tokens of one text.
        options: The options of the call.
        clean_up: What :func:`decode_text` does where the call does not say whether spaces are removed.
    """
    skip, clean = options.get("skip_special_tokens"), options.get("clean_up_tokenization_spaces")
    return decode_text(
        tokenizer,
        ids,
        skip_special=True if skip is None else bool(skip),
        clean_up=clean_up if clean is None else bool(clean),
    )


_CLEANED = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)
"""What cleaning up replaces, in this order."""
