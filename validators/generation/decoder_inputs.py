"""Feeds growing sequences to a model and returns the logits of the next token, with or without a KV cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Array, Arrays, Runner


class DecoderInputs:
    """The inputs of a batch, which grow with the generated tokens.

    Args:
        runner: The model.
        arrays: The inputs, including the prompts: ``decoder_input_ids`` if the model has an encoder, else
            ``input_ids``.
        kwargs: Further keyword arguments of the model's forward.
        repeat: Number of rows for each sample: the number of beams.
        cache: Whether to use the model's KV cache.
        positions: Whether to compute position ids from the attention mask (not for models whose positions have
            several axes).

    Raises:
        InputError: A cache is asked for and the runner has none.
    """

    def __init__(
        self,
        runner: Runner,
        arrays: Mapping[str, Array],
        kwargs: Mapping[str, Any],
        *,
        repeat: int = 1,
        cache: bool = False,
        positions: bool = True,
    ) -> None:
        if cache and not runner.caches:
            raise InputError(
                "the program keeps no cache", hint="validate without the cases that end in -cache"
            )
        self._runner = runner
        self._kwargs = kwargs
        self._cache = cache
        self._state: str | None = None
        self._arrays = {
            name: np.repeat(value, repeat, axis=0)
            for name, value in arrays.items()
            if name in runner.accepts
        }
        self._encoder = "decoder_input_ids" in self._arrays
        self._positions = positions and not self._encoder and "position_ids" in runner.accepts

    @property
    def padding(self) -> Array | None:
        """Number of padding tokens on the left of each prompt; None for an encoder-decoder model."""
        return None if self._encoder else left_padding(self._arrays)

    def __call__(self, sequences: Array, order: Sequence[int] | None = None) -> Array:
        """Returns the logits of the token after each sequence (rows, vocabulary).

        Args:
            sequences: Prompts and the tokens generated so far.
            order: Rows of the last call that these sequences continue from; None: the same rows.
        """
        grown = self._seq2seq(sequences) if self._encoder else self._decoder(sequences)
        if not self._cache:
            return self._last(self._runner.run(grown, **self._kwargs))
        if self._state is not None:
            grown = self._newest(grown)
        outputs, self._state = self._runner.step(grown, self._state, order, **self._kwargs)
        return self._last(outputs)

    def _newest(self, grown: Arrays) -> Arrays:
        """Returns the last token and its token-wise inputs, and the whole attention mask."""
        tokens = grown["decoder_input_ids" if self._encoder else "input_ids"]
        newest = {
            name: value[:, -1:]
            for name, value in grown.items()
            if value.shape == tokens.shape and value.dtype.kind in "iu" and name != "attention_mask"
            if not self._encoder or name == "decoder_input_ids"
        }
        if "attention_mask" in grown:
            newest["attention_mask"] = grown["attention_mask"]
        return newest

    def _seq2seq(self, sequences: Array) -> Arrays:
        return {**self._arrays, "decoder_input_ids": sequences}

    def _decoder(self, sequences: Array) -> Arrays:
        prompts = self._arrays["input_ids"]
        new = sequences.shape[1] - prompts.shape[1]
        grown = {**self._arrays}
        for name, value in self._arrays.items():
            # Masks of tokens go on with ones, their types with zeros.
            if value.shape == prompts.shape and value.dtype.kind in "iu":
                fill = int(name == "attention_mask")
                grown[name] = np.pad(value, ((0, 0), (0, new)), constant_values=fill)
        grown["input_ids"] = sequences
        if self._positions and "attention_mask" in grown:
            mask = grown["attention_mask"]
            grown["position_ids"] = np.where(mask == 1, np.cumsum(mask, axis=1) - 1, 1)
        return grown

    @staticmethod
    def _last(outputs: Arrays) -> Array:
        return np.asarray(outputs["logits"][:, -1])


def left_padding(arrays: Mapping[str, Array]) -> Array | None:
    """Returns the number of padding tokens on the left of each text."""
    mask = arrays.get("attention_mask")
    return None if mask is None else np.asarray((mask != 0).argmax(axis=1))
