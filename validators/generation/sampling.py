"""Draws tokens: the warpers of transformers in float64, and numbers of a generator that every backend shares."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.activations import log_softmax, softmax
from equipoise.validators.core.types import Array
from equipoise.validators.generation.settings import GenerationSettings, Sampling


class TokenSampler:
    """Draws tokens from processed scores; the same seed gives the same tokens for the same scores.

    Args:
        settings: The settings; ``sampling`` is set.
    """

    def __init__(self, settings: GenerationSettings, sampling: Sampling) -> None:
        self._sampling = sampling
        # A beam must be able to end and to go on, so that beam search keeps one token more than there are ends.
        self._keep = max(len(settings.eos_token_ids) + 1, 2) if settings.num_beams > 1 else 1
        self._random = np.random.default_rng(sampling.seed)

    def warp(self, scores: Array) -> Array:
        """Returns scores (rows, vocabulary) with minus infinity for tokens that are never drawn."""
        return warp_scores(self._sampling, scores, self._keep)

    def draw(self, scores: Array) -> Array:
        """Returns one token of each row, drawn with the probabilities of its scores."""
        bounds = np.cumsum(softmax(scores), axis=-1)
        points = self._random.random(len(scores))[:, None] * bounds[:, -1:]
        return np.asarray((bounds <= points).sum(axis=-1))

    def disturb(self, scores: Array) -> Array:
        """Returns scores plus Gumbel noise: their largest ones are a draw without replacement."""
        return np.asarray(scores + self._random.gumbel(size=scores.shape))


def warp_scores(sampling: Sampling, scores: Array, keep: int) -> Array:
    """Applies temperature and cut-offs in the order of transformers.

    Args:
        sampling: The settings.
        scores: Processed scores (rows, vocabulary).
        keep: Number of best tokens that no cut-off takes.
    """
    scores = np.asarray(scores, np.float64) / sampling.temperature
    if sampling.top_k:
        count = min(max(sampling.top_k, keep), scores.shape[-1])
        scores = _cut(scores, scores < np.sort(scores, axis=-1)[:, -count, None])
    if sampling.top_p < 1.0:
        scores = _cut_by_order(scores, scores, 1 - sampling.top_p, keep)
    if sampling.min_p is not None:
        chances = softmax(scores)
        scores = _cut(
            scores,
            (chances < sampling.min_p * chances.max(-1, keepdims=True)) & ~_best(scores, keep),
        )
    if sampling.typical_p < 1.0:
        scores = _cut_untypical(scores, sampling.typical_p, keep)
    if 0.0 < sampling.epsilon_cutoff < 1.0:
        scores = _cut(scores, (softmax(scores) < sampling.epsilon_cutoff) & ~_best(scores, keep))
    if 0.0 < sampling.eta_cutoff < 1.0:
        least = np.minimum(
            sampling.eta_cutoff, sampling.eta_cutoff**0.5 * np.exp(-_entropy(scores))
        )
        scores = _cut(scores, (softmax(scores) < least) & ~_best(scores, keep))
    return scores


def _cut(scores: Array, is_cut: Array) -> Array:
    return np.where(is_cut, -np.inf, scores)


def _best(scores: Array, keep: int) -> Array:
    """Returns which tokens are the best ``keep`` of their row."""
    return np.asarray(scores >= np.sort(scores, axis=-1)[:, -min(keep, scores.shape[-1]), None])


def _cut_by_order(scores: Array, order_by: Array, share: float, keep: int) -> Array:
    """Cuts the least likely tokens that together have at most this share of the probability."""
    order = np.argsort(order_by, axis=-1, kind="stable")
    together = np.cumsum(softmax(np.take_along_axis(scores, order, axis=-1)), axis=-1)
    is_cut = together <= share
    is_cut[:, -keep:] = False
    cut = np.empty_like(is_cut)
    np.put_along_axis(cut, order, is_cut, axis=-1)
    return _cut(scores, cut)


def _cut_untypical(scores: Array, mass: float, keep: int) -> Array:
    """Cuts the tokens whose surprise is furthest from the entropy, beyond this share of the probability."""
    distance = np.abs(-log_softmax(scores) - _entropy(scores))
    order = np.argsort(distance, axis=-1, kind="stable")
    together = np.cumsum(softmax(np.take_along_axis(scores, order, axis=-1)), axis=-1)
    last = np.minimum((together < mass).sum(axis=-1), scores.shape[-1] - 1)
    ordered = np.take_along_axis(distance, order, axis=-1)
    is_cut = ordered > np.take_along_axis(ordered, last[:, None], axis=-1)
    is_cut[:, :keep] = False
    cut = np.empty_like(is_cut)
    np.put_along_axis(cut, order, is_cut, axis=-1)
    return _cut(scores, cut)


def _entropy(scores: Array) -> Array:
    logs = log_softmax(scores)
    terms = np.where(np.isfinite(logs), np.exp(logs) * logs, 0.0)
    return np.asarray(-terms.sum(axis=-1, keepdims=True))
