"""The generation loop: greedy or beam search, on any :class:`Runner`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from equipoise.validators.core.types import Array, Arrays, CallOption, Runner
from equipoise.validators.generation.beam_search import beam_search
from equipoise.validators.generation.decoder_inputs import DecoderInputs
from equipoise.validators.generation.logits_processors import (
    GenerationSettings,
    process_logits,
)
from equipoise.validators.models.folder import ModelFolder


def generate(
    runner: Runner,
    model: ModelFolder,
    arrays: Mapping[str, Array],
    options: Mapping[str, Any],
    follow: Arrays | None = None,
    **kwargs: CallOption,
) -> Arrays:
    """Generates text.

    Args:
        runner: The model.
        model: Its folder, for ``generation_config.json``.
        arrays: Its inputs.
        options: ``beams``, ``cache``, ``max_new_tokens`` of a case.
        follow: The reference's outputs. Greedy search continues with their tokens, so that its logits can be compared
            step by step, and returns its own choices as ``sequences``.
        kwargs: Further keyword arguments of the model's forward.

    Returns:
        ``sequences`` with the prompts. Greedy search adds ``logits`` (samples, steps, vocabulary) before logits
        processors, zero after the end of a sample. Beam search adds ``sequences_scores`` and ``sequences_gaps``.
    """
    search = generation_settings(model, options)
    arrays = with_prompt(runner, arrays, search)
    feed = DecoderInputs(
        runner,
        arrays,
        kwargs,
        repeat=search.beams,
        cache=bool(options.get("cache")),
        positions=not _has_multi_axis_positions(model),
    )
    prompt = prompt_tokens(arrays)
    if search.beams > 1:
        return beam_search(feed, prompt, search)
    return _greedy_search(feed, prompt, search, follow)


def generation_settings(model: ModelFolder, options: Mapping[str, Any]) -> GenerationSettings:
    """Returns the settings of the folder's generation config; options of a case override them."""
    config = {**model.generation_config}
    text = model.config.get("text_config") or model.config.get("decoder") or {}
    config.setdefault(
        "max_position_embeddings",
        model.config.get("max_position_embeddings", text.get("max_position_embeddings")),
    )
    return GenerationSettings.of(config, options)


def with_prompt(runner: Runner, arrays: Mapping[str, Array], search: GenerationSettings) -> Arrays:
    """Adds ``decoder_input_ids`` with the start token if the model has an encoder and the inputs lack them."""
    if "decoder_input_ids" in arrays or "decoder_input_ids" not in runner.accepts:
        return dict(arrays)
    samples = len(next(iter(arrays.values())))
    start = search.start if search.start is not None else search.pad
    return {**arrays, "decoder_input_ids": np.full((samples, 1), start, dtype=np.int64)}


def prompt_tokens(arrays: Mapping[str, Array]) -> Array:
    """Returns the tokens that generation continues from."""
    return arrays["decoder_input_ids" if "decoder_input_ids" in arrays else "input_ids"]


def greedy_margins(
    search: GenerationSettings, sequences: Array, logits: Array, padding: Array | None = None
) -> list[Array]:
    """Returns the margin of each generated token: half the difference of the two best scores.

    Scores are those after logits processors. A repetition penalty can enlarge an error of the logits by its factor, so
    the margins are divided by it.
    """
    prompt = sequences.shape[1] - logits.shape[1]
    margins = np.empty(logits.shape[:2])
    for step in range(logits.shape[1]):
        scores = process_logits(
            search, sequences[:, : prompt + step], logits[:, step], prompt, padding
        )
        top = np.sort(scores, axis=-1)[:, -2:]
        margins[:, step] = (top[:, 1] - top[:, 0]) / 2
    factor = max(search.repetition_penalty, 1 / search.repetition_penalty)
    written = generated_tokens(search, sequences, prompt)
    return [row[: len(tokens)] / factor for row, tokens in zip(margins, written, strict=True)]


def generated_tokens(search: GenerationSettings, sequences: Array, prompt: int) -> list[list[int]]:
    """Returns the tokens that were generated for each sample, up to its end token."""
    written = []
    for row in sequences[:, prompt:].tolist():
        ends = [index + 1 for index, token in enumerate(row) if token in search.eos]
        written.append(row[: ends[0]] if ends else row)
    return written


def _greedy_search(
    feed: DecoderInputs, prompt: Array, search: GenerationSettings, follow: Arrays | None
) -> Arrays:
    taken, own = prompt, prompt
    alive = np.ones(len(prompt), dtype=bool)
    logits: list[Array] = []
    while alive.any() and taken.shape[1] < search.limit(prompt.shape[1]):
        raw = feed(taken)
        best = process_logits(search, taken, raw, prompt.shape[1], feed.padding).argmax(axis=-1)
        chosen = np.where(alive, best, search.pad)
        # After its end a sample only waits for the others; its numbers mean nothing.
        logits.append(np.where(alive[:, None], raw, 0).astype(raw.dtype))
        own = np.concatenate([own, chosen[:, None]], axis=1)
        if follow is not None:
            chosen = follow["sequences"][:, taken.shape[1]]
        taken = np.concatenate([taken, chosen[:, None]], axis=1)
        alive &= ~np.isin(chosen, search.eos)
    return {"logits": np.stack(logits, axis=1), "sequences": own}


def _has_multi_axis_positions(model: ModelFolder) -> bool:
    """Checks whether positions have axes for time, height and width, which only the model can compute."""
    for config in (model.config, model.config.get("text_config") or {}):
        for name in ("rope_scaling", "rope_parameters"):
            if "mrope_section" in (config.get(name) or {}):
                return True
    return False
