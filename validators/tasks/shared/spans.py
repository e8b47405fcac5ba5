"""Finds the best span of tokens, given logits of starts and ends."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Array, Arrays, Batch

MASKED_LOGIT = -10000.0
"""Logit of a token that cannot start or end an answer; the same number as in pipeline()."""


def span_probabilities(logits: Array, allowed: Array) -> Array:
    """Returns the probabilities of the tokens of one row. They include the first token, which stands for *no answer*."""
    scores = np.where(allowed, logits.astype(np.float64), MASKED_LOGIT)
    exponentials = np.exp(scores - scores.max())
    return np.asarray(exponentials / exponentials.sum())


def row_probabilities(outputs: Arrays, row: int, allowed: Array) -> tuple[Array, Array]:
    """Returns the probabilities of the tokens of one row to start and to end the answer."""
    start, end = outputs["start_logits"][row], outputs["end_logits"][row]
    return span_probabilities(start, allowed), span_probabilities(end, allowed)


def positive_count(name: str, value: int | None, default: int) -> int:
    """Returns the value of an option that counts something, or its default.

    Raises:
        InputError: It is less than one.
    """
    if value is not None and value < 1:
        raise InputError(f"the option {name} takes at least 1", found=str(value))
    return default if value is None else int(value)


def best_spans(
    start: Array, end: Array, allowed: Array, count: int, max_tokens: int
) -> list[tuple[int, int, float]]:
    """Returns the spans of at most ``longest`` tokens with the highest probability: first token, last token, probability."""
    start, end = start.copy(), end.copy()
    start[0] = end[0] = 0.0
    scores = np.tril(np.triu(np.outer(start, end)), max_tokens - 1)
    order = np.argsort(-scores, axis=None, kind="stable")[:count]
    spans = [divmod(int(index), len(end)) for index in order]
    return [(s, e, float(scores[s, e])) for s, e in spans if allowed[s] and allowed[e]]


def span_margin(start: Array, end: Array, allowed: Array, max_tokens: int) -> float:
    """Returns how far all logits may move before another span is the best: a quarter of the difference of the two best.

    A span's score is a sum of two logits: that of the best may lose twice the error, and that of the next gain as much.
    """
    usable = allowed.copy()
    usable[0] = False
    sums = start.astype(np.float64)[:, None] + end.astype(np.float64)[None]
    sums = np.where(usable[:, None] & usable[None], sums, -np.inf)
    valid_spans = np.tril(np.triu(np.ones_like(sums)), max_tokens - 1) == 1
    ranked = np.sort(sums[valid_spans])[-2:]
    return float(ranked[-1] - ranked[0]) / 4 if len(ranked) > 1 else float("inf")


def spans_of_sample(
    batch: Batch, outputs: Arrays, index: int, count: int, max_answer_tokens: int
) -> tuple[list[tuple[int, int, int, float]], float]:
    """Returns the best spans of a sample's rows as (row, first, last, score), and the lowest score of no answer."""
    spans = []
    null_score = 1.0e6
    for row in np.flatnonzero(batch.context["sample"] == index).tolist():
        allowed = batch.context["allowed"][row]
        starts, ends = row_probabilities(outputs, row, allowed)
        null_score = min(null_score, float(starts[0] * ends[0]))
        spans += [
            (row, *span) for span in best_spans(starts, ends, allowed, count, max_answer_tokens)
        ]
    return spans, null_score
