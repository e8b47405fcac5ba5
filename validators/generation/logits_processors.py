"""The logits processors of a generation config, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import JsonValue
from equipoise.validators.core.types import Array, CallOption

DEFAULT_NEW_TOKENS = 20
"""Number of new tokens if a config sets no length, as in transformers."""

_UNSUPPORTED_SETTINGS = {
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "num_beam_groups": 1,
    "sequence_bias": None,
    "token_healing": False,
}
"""Settings that would change the text and are not supported here, with the value that means off."""


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of ``generation_config`` that decide which token is chosen; sampling is not supported.

    Attributes:
        num_beams: Number of beams; 1 is greedy search.
        max_length: Maximal length, prompt included.
        max_new_tokens: Maximal number of new tokens; overrides ``max_length``.
        min_length: Minimal length, prompt included.
        min_new_tokens: Minimal number of new tokens; overrides ``min_length``.
        eos_token_ids: Ids of the end tokens.
        pad_token_id: Id of the padding token.
        decoder_start_token_id: Id of the token that the decoder of an encoder-decoder model starts with.
        forced_bos_token_id: Id of the token that is forced after the start token.
        forced_eos_token_ids: Ids of the tokens that are forced at the maximal length.
        suppress_tokens: Ids that are never generated.
        begin_suppress_tokens: Ids that are not generated as first token.
        bad_words_ids: Sequences of ids that are never generated.
        no_repeat_ngram_size: Size of n-grams that must not occur twice; 0 is off.
        repetition_penalty: Factor that makes tokens less likely that have occurred.
        length_penalty: Exponent of the length in the scores of beam search.
        early_stopping: When beam search stops, as in transformers.
        max_position_embeddings: Number of positions that the model has.
    """

    num_beams: int = 1
    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int = 0
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_ids: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    max_position_embeddings: int | None = None

    @classmethod
    def from_config(
        cls, config: Mapping[str, JsonValue], options: Mapping[str, CallOption]
    ) -> GenerationSettings:
        """Reads the settings; ``options`` (``num_beams``, ``max_new_tokens``) override the config.

        Raises:
            InputError: A setting would change the text and is not supported.
        """
        for name, off in _UNSUPPORTED_SETTINGS.items():
            if config.get(name) not in (off, None):
                raise InputError(
                    f"generation with {name} is not supported",
                    found=config[name],
                    expected=off,
                    hint="remove it from generation_config.json",
                )
        eos = _as_tuple(config.get("eos_token_id"))
        pad = config.get("pad_token_id")
        start = config.get("decoder_start_token_id")
        return cls(
            num_beams=int(options.get("num_beams") or config.get("num_beams") or 1),
            max_length=config.get("max_length"),
            max_new_tokens=options.get("max_new_tokens") or config.get("max_new_tokens"),
            min_length=int(config.get("min_length") or 0),
            min_new_tokens=config.get("min_new_tokens"),
            eos_token_ids=eos,
            pad_token_id=int(pad) if pad is not None else (eos[0] if eos else 0),
            decoder_start_token_id=config.get("bos_token_id") if start is None else start,
            forced_bos_token_id=config.get("forced_bos_token_id"),
            forced_eos_token_ids=_as_tuple(config.get("forced_eos_token_id")),
            suppress_tokens=_as_tuple(config.get("suppress_tokens")),
            begin_suppress_tokens=_as_tuple(config.get("begin_suppress_tokens")),
            bad_words_ids=_bad_words(config.get("bad_words_ids"), eos),
            no_repeat_ngram_size=int(config.get("no_repeat_ngram_size") or 0),
            repetition_penalty=float(config.get("repetition_penalty") or 1.0),
            length_penalty=_float_or(config.get("length_penalty"), 1.0),
            early_stopping=config.get("early_stopping") or False,
            max_position_embeddings=config.get("max_position_embeddings"),
        )

    def max_total_length(self, prompt_length: int) -> int:
        """Returns the maximal length of sequences with a prompt of this length."""
        if self.max_new_tokens is not None:
            return prompt_length + int(self.max_new_tokens)
        # 20 is the default of transformers: it is the number of new tokens if no length is set.
        if self.max_length is not None and self.max_length != DEFAULT_NEW_TOKENS:
            return int(self.max_length)
        length = prompt_length + DEFAULT_NEW_TOKENS
        return min(length, self.max_position_embeddings) if self.max_position_embeddings else length

    def min_total_length(self, prompt_length: int) -> int:
        """Returns the minimal length of sequences with a prompt of this length."""
        if self.min_new_tokens is not None:
            return prompt_length + int(self.min_new_tokens)
        return self.min_length


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
    length = sequences.shape[1]
    if settings.repetition_penalty != 1.0:
        scores = _repetition_penalty(settings.repetition_penalty, sequences, scores, padding)
    if settings.no_repeat_ngram_size:
        for row, banned in enumerate(
            _repeated_ngram_tokens(sequences, settings.no_repeat_ngram_size)
        ):
            scores[row, banned] = -np.inf
    for word in settings.bad_words_ids:
        _ban_sequence(word, sequences, scores)
    if length < settings.min_total_length(prompt_length):
        scores[:, list(settings.eos_token_ids)] = -np.inf
    if settings.forced_bos_token_id is not None and length == 1:
        scores = _force_tokens(scores, (settings.forced_bos_token_id,))
    if settings.forced_eos_token_ids and length == settings.max_total_length(prompt_length) - 1:
        scores = _force_tokens(scores, settings.forced_eos_token_ids)
    scores[:, list(settings.suppress_tokens)] = -np.inf
    if length == _begin_index(settings, prompt_length):
        scores[:, list(settings.begin_suppress_tokens)] = -np.inf
    return scores


def _begin_index(settings: GenerationSettings, prompt_length: int) -> int:
    return (
        prompt_length
        if prompt_length > 1 or settings.forced_bos_token_id is None
        else prompt_length + 1
    )


def _force_tokens(scores: Array, tokens: Sequence[int]) -> Array:
    forced = np.full_like(scores, -np.inf)
    forced[:, list(tokens)] = 0.0
    return forced


def _repetition_penalty(
    penalty: float, sequences: Array, scores: Array, padding: Array | None
) -> Array:
    has_occurred = np.zeros(scores.shape, dtype=bool)
    starts = padding.tolist() if padding is not None else [0] * len(sequences)
    for row, start in enumerate(starts):
        has_occurred[row, sequences[row, start:]] = True
    penalized = np.where(scores < 0, scores * penalty, scores / penalty)
    return np.where(has_occurred, penalized, scores)


def _repeated_ngram_tokens(sequences: Array, size: int) -> list[list[int]]:
    """Returns the tokens that would make each row repeat an n-gram of this size."""
    banned = []
    for row in sequences.tolist():
        tail = row[len(row) - size + 1 :] if len(row) + 1 >= size else None
        starts = range(len(row) - size + 1)
        banned.append([row[i + size - 1] for i in starts if row[i : i + size - 1] == tail])
    return banned


def _ban_sequence(word: tuple[int, ...], sequences: Array, scores: Array) -> None:
    begin, end = word[:-1], word[-1]
    if len(begin) > sequences.shape[1]:
        return
    tails = sequences[:, sequences.shape[1] - len(begin) :]
    scores[(tails == np.asarray(begin, dtype=tails.dtype)).all(axis=1), end] = -np.inf


def _bad_words(words: JsonValue, eos: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    sequences = (tuple(int(token) for token in word) for word in words or ())
    return tuple(word for word in sequences if word not in {(token,) for token in eos})


def _as_tuple(value: JsonValue) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(int(token) for token in (value if isinstance(value, list | tuple) else [value]))


def _float_or(value: float | None, default: float) -> float:
    return default if value is None else float(value)
