"""The logits processors of a generation config, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.activations import log_softmax
from equipoise.validators.core.types import Array
from equipoise.validators.generation.settings import GenerationSettings, TimeRules


def process_logits(
    settings: GenerationSettings,
    sequences: Array,
    scores: Array,
    prompt_length: int,
    padding: Array | None = None,
) -> Array:
    """Applies all logits processors to the scores of the next token.

    Args:
        settings: The settings.
        sequences: Tokens so far, prompts included (rows, length).
        scores: Logits, or log-probabilities for beam search (rows, vocabulary).
        prompt_length: Length of the prompts.
        padding: Number of padding tokens on the left of each row; the repetition penalty ignores them.

    Returns:
        Scores in float64; processors are applied in the order of transformers.
    """
    scores = scores.astype(np.float64)
    scores = _penalize(settings, sequences, scores, padding)
    scores = _limit_length(settings, sequences.shape[1], scores, prompt_length)
    scores[:, _known(settings.suppress_tokens, scores)] = -np.inf
    if sequences.shape[1] == _begin_index(settings, prompt_length):
        scores[:, _known(settings.begin_suppress_tokens, scores)] = -np.inf
    if settings.times is not None:
        scores = _follow_time_rules(settings.times, sequences[:, prompt_length:], scores)
    return scores


def normalize_scores(settings: GenerationSettings, scores: Array) -> Array:
    """Normalizes processed scores to log-probabilities where the settings say so."""
    return log_softmax(scores) if settings.renormalize_logits else scores


def _penalize(
    settings: GenerationSettings, sequences: Array, scores: Array, padding: Array | None
) -> Array:
    """Changes the scores of tokens by those before them and by those of the encoder."""
    biases = [pair for pair in settings.biases if np.isfinite(pair[1])]
    for tokens, bias in biases:
        _add_bias(tokens, bias, sequences, scores)
    if settings.encoder_repetition_penalty != 1.0 and settings.encoder_tokens:
        # In beam search transformers changes the first row of each sample's batch alone.
        rows = np.asarray(settings.encoder_tokens)
        penalty = 1 / settings.encoder_repetition_penalty
        scores[: len(rows)] = _repetition_penalty(penalty, rows, scores[: len(rows)], None)
    if settings.repetition_penalty != 1.0:
        scores = _repetition_penalty(settings.repetition_penalty, sequences, scores, padding)
    if size := settings.no_repeat_ngram_size:
        _ban(scores, _repeated_ngram_tokens(sequences, sequences, size))
    if (size := settings.encoder_no_repeat_ngram_size) and settings.encoder_tokens:
        rows = _encoder_rows(settings, len(scores))
        _ban(scores, _repeated_ngram_tokens(rows, sequences, size))
    for tokens, bias in settings.biases:
        if not np.isfinite(bias):
            _add_bias(tokens, bias, sequences, scores)
    return scores


def _limit_length(
    settings: GenerationSettings, length: int, scores: Array, prompt_length: int
) -> Array:
    """Forces and bans the tokens that begin and end a text."""
    ends = _known(settings.eos_token_ids, scores)
    if length < settings.min_total_length(prompt_length):
        scores[:, ends] = -np.inf
    if settings.forced_bos_token_id is not None and length == 1:
        scores = _force_tokens(scores, (settings.forced_bos_token_id,))
    if settings.forced_eos_token_ids and length == settings.max_total_length(prompt_length) - 1:
        scores = _force_tokens(scores, settings.forced_eos_token_ids)
    if settings.remove_invalid_values:
        limit = float(np.finfo(np.float32).max)
        scores = np.nan_to_num(scores, nan=0.0, posinf=limit, neginf=-limit)
    if settings.exponential_decay is not None:
        start, factor = settings.exponential_decay
        beyond = length - prompt_length - start
        if beyond > 0:
            growth = factor**beyond - 1
            if growth >= 0:
                _check_decay(scores[:, ends])
            scores[:, ends] += np.abs(scores[:, ends]) * growth
    return scores


def _check_decay(scores: Array) -> None:
    """Checks that an end token whose score grows is not banned at the same time.

    Raises:
        InputError: It is: transformers adds infinity to its score of -infinity, which is NaN, and takes NaN for the best.
    """
    if np.isneginf(scores).any():
        raise InputError(
            "exponential_decay_length_penalty needs an end token, and min_length or min_new_tokens bans it",
            hint="a smaller min_length, or a penalty that starts behind it",
        )


def _known(tokens: Sequence[int], scores: Array) -> list[int]:
    """Returns the tokens that the model has; configs may name others."""
    return [token for token in tokens if 0 <= token < scores.shape[-1]]


def _begin_index(settings: GenerationSettings, prompt_length: int) -> int:
    return (
        prompt_length
        if prompt_length > 1 or settings.forced_bos_token_id is None
        else prompt_length + 1
    )


def _force_tokens(scores: Array, tokens: Sequence[int]) -> Array:
    if len(_known(tokens, scores)) < len(tokens):
        raise InputError(
            "a token that is forced is beyond the vocabulary",
            found=", ".join(map(str, tokens)),
            expected=f"less than {scores.shape[-1]}",
        )
    forced = np.full_like(scores, -np.inf)
    forced[:, list(tokens)] = 0.0
    return forced


def _encoder_rows(settings: GenerationSettings, rows: int) -> Array:
    """Returns the encoder's tokens for each row: those of a sample for each of its beams."""
    tokens = np.asarray(settings.encoder_tokens)
    return np.repeat(tokens, rows // len(tokens), axis=0)


def _repetition_penalty(
    penalty: float, sequences: Array, scores: Array, padding: Array | None
) -> Array:
    has_occurred = np.zeros(scores.shape, dtype=bool)
    starts = padding.tolist() if padding is not None else [0] * len(sequences)
    for row, start in enumerate(starts):
        has_occurred[row, sequences[row, start:]] = True
    penalized = np.where(scores < 0, scores * penalty, scores / penalty)
    return np.where(has_occurred, penalized, scores)


def _repeated_ngram_tokens(sources: Array, sequences: Array, size: int) -> list[list[int]]:
    """Returns the tokens with which each row would end in an n-gram of its source."""
    banned = []
    for source, row in zip(sources.tolist(), sequences.tolist(), strict=True):
        tail = row[len(row) - size + 1 :] if len(row) + 1 >= size else None
        starts = range(len(source) - size + 1)
        banned.append([source[i + size - 1] for i in starts if source[i : i + size - 1] == tail])
    return banned


def _ban(scores: Array, tokens: Sequence[Sequence[int]]) -> None:
    for row, banned in enumerate(tokens):
        scores[row, list(banned)] = -np.inf


def _add_bias(word: tuple[int, ...], bias: float, sequences: Array, scores: Array) -> None:
    """Adds a bias to the last token of a word in the rows that end with those before it.

    Raises:
        InputError: The model has no such token.
    """
    begin, end = word[:-1], word[-1]
    if end >= scores.shape[-1]:
        raise InputError(
            f"token {end} is not in the vocabulary of {scores.shape[-1]} tokens",
            hint="correct bad_words_ids or sequence_bias",
        )
    # Longer than the text so far: transformers does not look at such a word.
    if begin and len(word) > sequences.shape[1]:
        return
    tails = sequences[:, sequences.shape[1] - len(begin) :]
    scores[(tails == np.asarray(begin, dtype=tails.dtype)).all(axis=1), end] += bias


def _follow_time_rules(rules: TimeRules, generated: Array, scores: Array) -> Array:
    """Bans what does not follow the rules for tokens of time, and forces a time where it is the likeliest."""
    scores[:, rules.plain] = -np.inf
    for row, tokens in enumerate(generated.tolist()):
        was_time = bool(tokens) and tokens[-1] >= rules.first
        was_pair = len(tokens) < 2 or tokens[-2] >= rules.first
        if was_time and was_pair:
            scores[row, rules.first :] = -np.inf
        elif was_time:
            scores[row, : rules.end] = -np.inf
        times = [token for token in tokens if token >= rules.first]
        if times:
            earliest = times[-1] if was_time and not was_pair else times[-1] + 1
            scores[row, rules.first : earliest] = -np.inf
    if not generated.shape[1]:
        scores[:, : rules.first] = -np.inf
        if rules.last_initial is not None:
            scores[:, rules.first + rules.last_initial + 1 :] = -np.inf
    if rules.by_probability:
        scores[_prefers_time(rules, scores), : rules.first] = -np.inf
    return scores


def _prefers_time(rules: TimeRules, scores: Array) -> Array:
    """Returns for each row whether all times together are likelier than any text."""
    with np.errstate(divide="ignore"):
        logs = log_softmax(scores)
        together = np.log(np.exp(logs[:, rules.first :]).sum(axis=1))
    return np.asarray(together > logs[:, : rules.first].max(axis=1))
