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


def beam_search(feed: DecoderInputs, prompt: Array, search: GenerationSettings) -> Arrays:
    """Returns the best sequence of each sample.

    Returns:
        ``sequences`` (samples, length), prompts included; ``sequences_scores``, normalized by length;
        ``sequences_gaps``: the smallest difference in that unit between the scores of a kept and a dropped candidate;
        ``sequences_scores_scale``: the largest logit, which determines the rounding errors of the scores.
    """
    state = _initial_state(prompt, search)
    length, limit = prompt.shape[1], search.limit(prompt.shape[1])
    while length < limit and not state.stop:
        _step(state, feed, search, prompt.shape[1], length)
        length += 1
    best = state.finished_lengths[:, 0]
    spread = state.finished_scores[:, 0] - state.finished_scores[:, 1]
    written = np.maximum(best - prompt.shape[1], 1) ** search.length_penalty
    return {
        "sequences": state.finished[:, 0, : best.max()],
        "sequences_scores": state.finished_scores[:, 0],
        "sequences_gaps": np.minimum(state.gaps / written, spread),
        "sequences_scores_scale": state.scale,
    }


def _initial_state(prompt: Array, search: GenerationSettings) -> _BeamState:
    samples, length = prompt.shape
    shape = (samples, search.beams)
    # As transformers: a padding id of 0 counts as none.
    fill = (search.pad or search.eos[0]) if search.eos else -1
    tokens = np.full((*shape, search.limit(length)), fill, dtype=np.int64)
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
    state: _BeamState, feed: DecoderInputs, search: GenerationSettings, prompt: int, length: int
) -> None:
    samples, beams = state.running_scores.shape
    rows = state.running[:, :, :length].reshape(samples * beams, length)
    logits = feed(rows, state.order)
    state.scale = np.maximum(state.scale, np.abs(logits).reshape(samples, -1).max(axis=1))
    scores = process_logits(search, rows, log_softmax(logits), prompt, feed.padding)
    vocabulary = scores.shape[-1]
    total = scores.reshape(samples, beams, vocabulary) + state.running_scores[:, :, None]
    keep = max(2, 1 + len(search.eos)) * beams
    top, where = _top_k(total.reshape(samples, beams * vocabulary), keep)
    beam = where // vocabulary
    candidates = _gather(state.running, beam)
    candidates[:, :, length] = where % vocabulary
    stops = np.isin(candidates[:, :, length], search.eos) | (length + 1 >= search.limit(prompt))
    _record_gaps(state, search, top, stops)
    running, kept = _top_k(top + stops * MASKED_SCORE, beams)
    state.running, state.running_scores = _gather(candidates, kept), running
    sources = np.take_along_axis(beam, kept, axis=1) + np.arange(samples)[:, None] * beams
    state.order = sources.ravel().tolist()
    _collect_finished(state, search, candidates, top, stops, length + 1, prompt)
    _update_open(state, search, stops, length + 1, prompt)


def _collect_finished(
    state: _BeamState,
    search: GenerationSettings,
    candidates: Array,
    top: Array,
    stops: Array,
    length: int,
    prompt: int,
) -> None:
    """Adds candidates that have just ended to the finished sequences, if they are better."""
    beams = state.running_scores.shape[1]
    counts = stops & (np.arange(top.shape[1]) < beams)
    full = state.ended.all(axis=1, keepdims=True) & (search.early_stopping is True)
    scores = top / (length - prompt) ** search.length_penalty
    scores = scores + (full * MASKED_SCORE + ~state.open * MASKED_SCORE) + ~counts * MASKED_SCORE
    merged = np.concatenate([state.finished_scores, scores], axis=1)
    state.finished_scores, kept = _top_k(merged, beams)
    state.finished = _gather(np.concatenate([state.finished, candidates], axis=1), kept)
    lengths = np.concatenate([state.finished_lengths, np.full(top.shape, length)], axis=1)
    state.finished_lengths = np.take_along_axis(lengths, kept, axis=1)
    state.ended = np.take_along_axis(np.concatenate([state.ended, counts], axis=1), kept, axis=1)


def _update_open(
    state: _BeamState, search: GenerationSettings, stops: Array, length: int, prompt: int
) -> None:
    """Updates which samples can still improve, and whether the search has ended."""
    longest = search.early_stopping == "never" and search.length_penalty > 0.0
    written = search.limit(prompt) - prompt if longest else length - prompt
    possible = state.running_scores[:, :1] / written**search.length_penalty
    worst = np.where(state.ended, state.finished_scores.min(axis=1, keepdims=True), MASKED_SCORE)
    state.open = state.open & (possible > worst).any(axis=1, keepdims=True)
    settled = state.ended.all() and search.early_stopping is True
    state.stop = bool(not state.open.any() or settled or stops.all())


def _record_gaps(state: _BeamState, search: GenerationSettings, top: Array, stops: Array) -> None:
    """Updates the smallest difference between the last candidate that is kept and the first that is dropped."""
    beams = state.running_scores.shape[1]
    for sample in range(len(top)):
        full = state.ended[sample].all() and search.early_stopping is True
        going = top[sample][~stops[sample] & (top[sample] > MASKED_SCORE / 2)]
        if full or not state.open[sample, 0]:
            continue
        gaps = [state.gaps[sample]]
        if len(going) > beams:
            gaps.append(going[beams - 1] - going[beams])
        # An end counts among the best only.
        if stops[sample, beams - 1 : beams + 1].any() and np.isfinite(top[sample, beams]):
            gaps.append(top[sample, beams - 1] - top[sample, beams])
        state.gaps[sample] = min(gaps)


def _top_k(scores: Array, count: int) -> tuple[Array, Array]:
    where = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    return np.take_along_axis(scores, where, axis=-1), where


def _gather(sequences: Array, rows: Array) -> Array:
    return np.take_along_axis(sequences, rows[:, :, None], axis=1)
