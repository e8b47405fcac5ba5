"""Follows tokens that were chosen before, in one forward pass over all of them instead of one for each (teacher forcing).

In a causal decoder the logits after a token do not depend on the tokens that follow, so that one pass over a whole
sequence returns the same logits as a loop over its tokens:

    tokens          <s>   A     nice  day
    logits after    A     nice  day   </s>     one pass: 4 rows of logits
    loop            A  |  nice | day | </s>    4 passes, of 1, 2, 3 and 4 tokens
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from equipoise.validators.core.activations import log_softmax
from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.generation.decoder_inputs import DecoderInputs
from equipoise.validators.generation.logits_processors import process_logits
from equipoise.validators.generation.settings import GenerationSettings

OPTION = "teacher_forcing"
"""Option of a case: the loop follows the given tokens in one pass."""


class StepLogits(Protocol):
    """Returns the logits of the token after each sequence."""

    @property
    def padding(self) -> Array | None:
        """Number of padding tokens on the left of each prompt."""
        ...

    def __call__(self, sequences: Array) -> Array:
        """Returns the logits (rows, vocabulary) after sequences (rows, tokens)."""
        ...


class ForcedLogits:
    """The logits after each token of given sequences, from one forward pass.

    Args:
        decoder: The model, without a cache.
        sequences: (rows, tokens), prompts included.
        prompt_length: Number of tokens of the prompts.
    """

    def __init__(self, decoder: DecoderInputs, sequences: Array, prompt_length: int) -> None:
        self._prompt_length = prompt_length
        self._logits = decoder.last_logits(
            sequences[:, :-1], count=sequences.shape[1] - prompt_length
        )
        self.padding = decoder.padding

    def __call__(self, sequences: Array) -> Array:
        """Returns the logits after the first tokens of the sequences."""
        return np.asarray(self._logits[:, sequences.shape[1] - self._prompt_length])


def score_sequences(
    decoder: StepLogits, sequences: Array, prompt_length: int, settings: GenerationSettings
) -> Arrays:
    """Returns the scores of given sequences as :func:`beam_search` computes them: normalized by length.

    Args:
        decoder: Gives the logits.
        sequences: (samples, tokens), prompts included; what follows an end token is padding.
        prompt_length: Number of tokens of the prompts.
        settings: The generation config.
    """
    scores, count = np.zeros(len(sequences)), np.zeros(len(sequences), int)
    alive = np.ones(len(sequences), dtype=bool)
    for length in range(prompt_length, sequences.shape[1]):
        rows, chosen = sequences[:, :length], sequences[:, length]
        step = process_logits(
            settings, rows, log_softmax(decoder(rows)), prompt_length, decoder.padding
        )
        scores += np.where(alive, step[np.arange(len(step)), chosen], 0.0)
        count += alive
        alive &= ~np.isin(chosen, settings.eos_token_ids)
    return {"sequences": sequences, "sequences_scores": scores / count**settings.length_penalty}
