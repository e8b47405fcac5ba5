"""Beam search with the same steps as in transformers, so that both choose the same tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.activations import log_softmax
from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.generation.decoder_inputs import DecoderInputs
from equipoise.validators.generation.logits_processors import normalize_scores, process_logits
from equipoise.validators.generation.sampling import TokenSampler
from equipoise.validators.generation.settings import GenerationSettings
from equipoise.validators.generation.stop_strings import StopStrings

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
        is_finished: Whether an entry of ``finished`` is a real sequence, not a placeholder.
        can_improve: (samples, 1) Whether a running sequence may still become better than a finished one.
        smallest_gaps: (samples,) Smallest difference between the scores of a kept and a dropped candidate so far.
        max_logit: (samples,) Largest absolute logit so far.
        row_order: Rows of the last call that the running sequences continue from.
        is_done: Whether the search has ended.
    """

    running: Array
    running_scores: Array
    finished: Array
    finished_scores: Array
    finished_lengths: Array
    is_finished: Array
    can_improve: Array
    smallest_gaps: Array
    max_logit: Array
    row_order: list[int] | None = None
    is_done: bool = False


def beam_search(
    decoder: DecoderInputs,
    prompt: Array,
    settings: GenerationSettings,
    stop: StopStrings | None = None,
) -> Arrays:
    """Returns the best sequences of each sample: ``num_return_sequences`` of them.

    Args:
        decoder: The model.
        prompt: Tokens (samples, length).
        settings: The settings.
        stop: Finds sequences that end with a string.

    Returns:
        ``sequences`` (samples * number of texts, length), prompts included; ``sequences_scores``, normalized by length;
        ``sequences_gaps``: the smallest difference in that unit between the scores of a kept and a dropped candidate;
        ``sequences_scores_scale``: the largest logit, which determines the rounding errors of the scores.
    """
    state = _initial_state(prompt, settings)
    sampler = TokenSampler(settings, settings.sampling) if settings.sampling else None
    length, max_length = prompt.shape[1], settings.max_total_length(prompt.shape[1])
    while length < max_length and not state.is_done:
        _step(state, decoder, settings, prompt.shape[1], length, stop, sampler)
        length += 1
    count = settings.num_return_sequences
    best_lengths = state.finished_lengths[:, 0]
    longest = state.finished_lengths[:, :count].max()
    runner_up_gap = state.finished_scores[:, 0] - state.finished_scores[:, 1]
    new_tokens = np.maximum(best_lengths - prompt.shape[1], 1)
    gaps = state.smallest_gaps / new_tokens**settings.length_penalty
    return {
        "sequences": state.finished[:, :count, :longest].reshape(-1, longest),
        "sequences_scores": state.finished_scores[:, 0],
        "sequences_gaps": np.minimum(gaps, runner_up_gap),
        "sequences_scores_scale": state.max_logit,
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
        is_finished=np.zeros(shape, dtype=bool),
        can_improve=np.ones((samples, 1), dtype=bool),
        smallest_gaps=np.full(samples, np.inf),
        max_logit=np.zeros(samples),
    )


def _step(
    state: _BeamState,
    decoder: DecoderInputs,
    settings: GenerationSettings,
    prompt_length: int,
    length: int,
    stop: StopStrings | None,
    sampler: TokenSampler | None,
) -> None:
    samples, beams = state.running_scores.shape
    rows = state.running[:, :, :length].reshape(samples * beams, length)
    logits = decoder(rows, state.row_order)
    state.max_logit = np.maximum(state.max_logit, np.abs(logits).reshape(samples, -1).max(axis=1))
    scores = process_logits(settings, rows, log_softmax(logits), prompt_length, decoder.padding)
    if sampler is not None:
        scores = sampler.warp(scores)
    scores = normalize_scores(settings, scores)
    vocabulary = scores.shape[-1]
    total = scores.reshape(samples, beams, vocabulary) + state.running_scores[:, :, None]
    num_candidates = max(2, 1 + len(settings.eos_token_ids)) * beams
    flat = total.reshape(samples, beams * vocabulary)
    _, indices = _top_k(flat if sampler is None else sampler.disturb(flat), num_candidates)
    top = np.take_along_axis(flat, indices, axis=-1)
    beam = indices // vocabulary
    candidates = _gather(state.running, beam)
    candidates[:, :, length] = indices % vocabulary
    stops = np.isin(candidates[:, :, length], settings.eos_token_ids) | (
        length + 1 >= settings.max_total_length(prompt_length)
    )
    if stop is not None:
        ended = stop(candidates[:, :, : length + 1].reshape(-1, length + 1))
        stops = stops | np.reshape(ended, stops.shape)
    _record_gaps(state, settings, top, stops)
    running, kept_indices = _top_k(top + stops * MASKED_SCORE, beams)
    state.running, state.running_scores = _gather(candidates, kept_indices), running
    sources = np.take_along_axis(beam, kept_indices, axis=1) + np.arange(samples)[:, None] * beams
    state.row_order = sources.ravel().tolist()
    _collect_finished(state, settings, candidates, top, stops, length + 1, prompt_length)
    _update_stopping(state, settings, stops, length + 1, prompt_length)


def _collect_finished(
    state: _BeamState,
    settings: GenerationSettings,
    candidates: Array,
    top: Array,
    stops: Array,
    length: int,
    prompt_length: int,
) -> None:
    """Adds candidates that have just ended to the finished sequences, if they are better."""
    beams = state.running_scores.shape[1]
    newly_ended = stops & (np.arange(top.shape[1]) < beams)
    full = state.is_finished.all(axis=1, keepdims=True) & (settings.early_stopping is True)
    scores = _per_token(top, length - prompt_length, settings)
    scores = (
        scores
        + (full * MASKED_SCORE + ~state.can_improve * MASKED_SCORE)
        + ~newly_ended * MASKED_SCORE
    )
    merged = np.concatenate([state.finished_scores, scores], axis=1)
    state.finished_scores, kept_indices = _top_k(merged, beams)
    state.finished = _gather(np.concatenate([state.finished, candidates], axis=1), kept_indices)
    lengths = np.concatenate([state.finished_lengths, np.full(top.shape, length)], axis=1)
    state.finished_lengths = np.take_along_axis(lengths, kept_indices, axis=1)
    state.is_finished = np.take_along_axis(
        np.concatenate([state.is_finished, newly_ended], axis=1), kept_indices, axis=1
    )


def _per_token(scores: Array, new_tokens: int, settings: GenerationSettings) -> Array:
    """Divides the scores of the beams, best first, by a power of the number of new tokens.

    Raises:
        InputError: A score becomes smaller than the one that stands for *impossible*, or zero in float32: transformers then
            chooses by accident.
    """
    penalty = settings.length_penalty
    divisor = float(new_tokens**penalty)
    possible = scores[:, : settings.num_beams]
    possible = possible[possible > MASKED_SCORE / 2]
    is_zero = divisor > float(np.finfo(np.float32).max)
    if is_zero or (possible < MASKED_SCORE * divisor).any():
        raise InputError(
            f"length_penalty={penalty:g} is not supported: it leaves no order among texts of {new_tokens} tokens",
            hint="a value nearer to 0",
        )
    return np.asarray(scores / divisor)


def _update_stopping(
    state: _BeamState, settings: GenerationSettings, stops: Array, length: int, prompt_length: int
) -> None:
    """Updates which samples can still improve, and whether the search has ended."""
    assume_max_length = settings.early_stopping == "never" and settings.length_penalty > 0.0
    new_tokens = (
        settings.max_total_length(prompt_length) - prompt_length
        if assume_max_length
        else length - prompt_length
    )
    possible = _per_token(state.running_scores[:, :1], new_tokens, settings)
    worst = np.where(
        state.is_finished, state.finished_scores.min(axis=1, keepdims=True), MASKED_SCORE
    )
    state.can_improve = state.can_improve & (possible > worst).any(axis=1, keepdims=True)
    all_ended = state.is_finished.all() and settings.early_stopping is True
    state.is_done = bool(not state.can_improve.any() or all_ended or stops.all())


def _record_gaps(state: _BeamState, settings: GenerationSettings, top: Array, stops: Array) -> None:
    """Updates the smallest difference between the last candidate that is kept and the first that is dropped."""
    beams = state.running_scores.shape[1]
    for sample in range(len(top)):
        full = state.is_finished[sample].all() and settings.early_stopping is True
        continuing = top[sample][~stops[sample] & (top[sample] > MASKED_SCORE / 2)]
        if full or not state.can_improve[sample, 0]:
            continue
        gaps = [state.smallest_gaps[sample]]
        if len(continuing) > beams:
            gaps.append(continuing[beams - 1] - continuing[beams])
        # A sequence that ends counts only if it is among the best.
        if stops[sample, beams - 1 : beams + 1].any() and np.isfinite(top[sample, beams]):
            gaps.append(top[sample, beams - 1] - top[sample, beams])
        state.smallest_gaps[sample] = min(gaps)


def _top_k(scores: Array, count: int) -> tuple[Array, Array]:
    """Returns the largest scores of each row and where they are; of equal ones the first, NaN last."""
    indices = np.stack([_best(-row, count) for row in scores])
    return np.take_along_axis(scores, indices, axis=-1), indices


def _best(costs: Array, count: int) -> Array:
    """Returns where the smallest costs are, in their order; only those that reach the last of them are sorted."""
    if len(costs) <= count:
        return np.argsort(costs, kind="stable")
    # A vocabulary may have a hundred thousand tokens.
    last = np.partition(costs, count - 1)[count - 1]
    places = np.flatnonzero(~(costs > last))
    return places[np.argsort(costs[places], kind="stable")[:count]]


def _gather(sequences: Array, rows: Array) -> Array:
    return np.take_along_axis(sequences, rows[:, :, None], axis=1)
