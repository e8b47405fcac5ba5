"""Beam search with the same steps as in transformers, so that both choose the same tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.validators.core.activations import log_softmax
from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.generation.decoder_inputs import DecoderInputs
from equipoise.validators.generation.logits_processors import (
    GenerationSettings,
    process_logits,
)

MASKED_SCORE = -1.0e9
"""Score of a candidate that must not be chosen; the same number as in transformers."""


@dataclass
class _BeamState:
    """The beams of a batch. Axes are (samples, beams), and a last one for the tokens of sequences.

    Attributes:
        running: Sequences that continue.
        running_scores: Their scores: sums of log-probabilities.
        finished: The best sequences that have ended.
        finished_scores: Their scores, normalized by length.
        finished_lengths: Their lengths, prompts included.
        ended: Whether an entry of ``finished`` is a real sequence.
        open: (samples, 1) Whether a running sequence may still become better than a finished one.
        gaps: (samples,) Smallest difference between the scores of a kept and a dropped candidate so far.
        scale: (samples,) Largest absolute logit so far.
        order: Rows of the last call that the running sequences continue from.
        stop: Whether the search has ended.
    """

    running: Array
    running_scores: Array
    finished: Array
    finished_scores: Array
    finished_lengths: Array
    ended: Array
    open: Array
    gaps: Array
    scale: Array
    order: list[int] | None = None
    stop: bool = False


def beam_search(decoder: DecoderInputs, prompt: Array, settings: GenerationSettings) -> Arrays:
    """Returns the best sequence of each sample.

    Returns:
        ``sequences`` (samples, length), prompts included; ``sequences_scores``, normalized by length;
        ``sequences_gaps``: the smallest difference in that unit between the scores of a kept and a dropped candidate;
        ``sequences_scores_scale``: the largest logit, which determines the rounding errors of the scores.
    """
    state = _initial_state(prompt, settings)
    length, max_length = prompt.shape[1], settings.max_total_length(prompt.shape[1])
    while length < max_length and not state.stop:
        _step(state, decoder, settings, prompt.shape[1], length)
        length += 1
    best_lengths = state.finished_lengths[:, 0]
    runner_up_gap = state.finished_scores[:, 0] - state.finished_scores[:, 1]
    normalization = np.maximum(best_lengths - prompt.shape[1], 1) ** settings.length_penalty
    return {
        "sequences": state.finished[:, 0, : best_lengths.max()],
        "sequences_scores": state.finished_scores[:, 0],
        "sequences_gaps": np.minimum(state.gaps / normalization, runner_up_gap),
        "sequences_scores_scale": state.scale,
    }


def _initial_state(prompt: Array, settings: GenerationSettings) -> _BeamState:
    samples, length = prompt.shape
    shape = (samples, settings.num_beams)
    # As in transformers, a padding id of 0 counts as unset.
    fill = (settings.pad_token_id or settings.eos_token_ids[0]) if settings.eos_token_ids else -1
    tokens = np.full((*shape, settings.max_total_length(length)), fill, dtype=np.int64)
    tokens[:, :, :length] = prompt[:, None]
    scores = np.zeros(shape)
    scores[:, 1:] = MASKED_SCORE
    return _BeamState(
        running=tokens,
        running_scores=scores,
        finished=tokens.copy(),
        finished_scores=np.full(shape, MASKED_SCORE),
        finished_lengths=np.full(shape, length),
        ended=np.zeros(shape, dtype=bool),
        open=np.ones((samples, 1), dtype=bool),
        gaps=np.full(samples, np.inf),
        scale=np.zeros(samples),
    )


def _step(
    state: _BeamState,
    decoder: DecoderInputs,
    settings: GenerationSettings,
    prompt: int,
    length: int,
) -> None:
    samples, beams = state.running_scores.shape
    rows = state.running[:, :, :length].reshape(samples * beams, length)
    logits = decoder(rows, state.order)
    state.scale = np.maximum(state.scale, np.abs(logits).reshape(samples, -1).max(axis=1))
    scores = process_logits(settings, rows, log_softmax(logits), prompt, decoder.padding)
    vocabulary = scores.shape[-1]
    total = scores.reshape(samples, beams, vocabulary) + state.running_scores[:, :, None]
    num_candidates = max(2, 1 + len(settings.eos_token_ids)) * beams
    top, indices = _top_k(total.reshape(samples, beams * vocabulary), num_candidates)
    beam = indices // vocabulary
    candidates = _gather(state.running, beam)
    candidates[:, :, length] = indices % vocabulary
    stops = np.isin(candidates[:, :, length], settings.eos_token_ids) | (
        length + 1 >= settings.max_total_length(prompt)
    )
    _record_gaps(state, settings, top, stops)
    running, chosen = _top_k(top + stops * MASKED_SCORE, beams)
    state.running, state.running_scores = _gather(candidates, chosen), running
    sources = np.take_along_axis(beam, chosen, axis=1) + np.arange(samples)[:, None] * beams
    state.order = sources.ravel().tolist()
    _collect_finished(state, settings, candidates, top, stops, length + 1, prompt)
    _update_open(state, settings, stops, length + 1, prompt)


def _collect_finished(
    state: _BeamState,
    settings: GenerationSettings,
    candidates: Array,
    top: Array,
    stops: Array,
    length: int,
    prompt: int,
) -> None:
    """Adds candidates that have just ended to the finished sequences, if they are better."""
    beams = state.running_scores.shape[1]
    newly_ended = stops & (np.arange(top.shape[1]) < beams)
    full = state.ended.all(axis=1, keepdims=True) & (settings.early_stopping is True)
    scores = top / (length - prompt) ** settings.length_penalty
    scores = (
        scores + (full * MASKED_SCORE + ~state.open * MASKED_SCORE) + ~newly_ended * MASKED_SCORE
    )
    merged = np.concatenate([state.finished_scores, scores], axis=1)
    state.finished_scores, chosen = _top_k(merged, beams)
    state.finished = _gather(np.concatenate([state.finished, candidates], axis=1), chosen)
    lengths = np.concatenate([state.finished_lengths, np.full(top.shape, length)], axis=1)
    state.finished_lengths = np.take_along_axis(lengths, chosen, axis=1)
    state.ended = np.take_along_axis(
        np.concatenate([state.ended, newly_ended], axis=1), chosen, axis=1
    )


def _update_open(
    state: _BeamState, settings: GenerationSettings, stops: Array, length: int, prompt: int
) -> None:
    """Updates which samples can still improve, and whether the search has ended."""
    assume_max_length = settings.early_stopping == "never" and settings.length_penalty > 0.0
    new_tokens = (
        settings.max_total_length(prompt) - prompt if assume_max_length else length - prompt
    )
    possible = state.running_scores[:, :1] / new_tokens**settings.length_penalty
    worst = np.where(state.ended, state.finished_scores.min(axis=1, keepdims=True), MASKED_SCORE)
    state.open = state.open & (possible > worst).any(axis=1, keepdims=True)
    all_ended = state.ended.all() and settings.early_stopping is True
    state.stop = bool(not state.open.any() or all_ended or stops.all())


def _record_gaps(state: _BeamState, settings: GenerationSettings, top: Array, stops: Array) -> None:
    """Updates the smallest difference between the last candidate that is kept and the first that is dropped."""
    beams = state.running_scores.shape[1]
    for sample in range(len(top)):
        full = state.ended[sample].all() and settings.early_stopping is True
        continuing = top[sample][~stops[sample] & (top[sample] > MASKED_SCORE / 2)]
        if full or not state.open[sample, 0]:
            continue
        gaps = [state.gaps[sample]]
        if len(continuing) > beams:
            gaps.append(continuing[beams - 1] - continuing[beams])
        # A sequence that ends counts only if it is among the best.
        if stops[sample, beams - 1 : beams + 1].any() and np.isfinite(top[sample, beams]):
            gaps.append(top[sample, beams - 1] - top[sample, beams])
        state.gaps[sample] = min(gaps)


def _top_k(scores: Array, count: int) -> tuple[Array, Array]:
    indices = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    return np.take_along_axis(scores, indices, axis=-1), indices


def _gather(sequences: Array, rows: Array) -> Array:
    return np.take_along_axis(sequences, rows[:, :, None], axis=1)
