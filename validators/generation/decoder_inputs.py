"""Feeds growing sequences to a model and returns the logits of the next token, with or without a KV cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Array, Arrays, CallOption, Runner


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
        limit: Number of positions that the decoder has; None: any.

    Raises:
        InputError: A cache is asked for and the runner has none.
    """

    def __init__(
        self,
        runner: Runner,
        arrays: Mapping[str, Array],
        kwargs: Mapping[str, CallOption],
        *,
        repeat: int = 1,
        cache: bool = False,
        positions: bool = True,
        limit: int | None = None,
    ) -> None:
        self._limit = limit
        if cache and not runner.caches:
            raise InputError(
                "the program has no KV cache", hint="validate without the cases that end in -cache"
            )
        self._runner = runner
        self._kwargs = kwargs
        self._use_cache = cache
        self._state: str | None = None
        self._inputs = {
            name: np.repeat(value, repeat, axis=0)
            for name, value in arrays.items()
            if name in runner.accepts
        }
        self._has_encoder = "decoder_input_ids" in self._inputs
        self._computes_positions = (
            positions and not self._has_encoder and "position_ids" in runner.accepts
        )

    @property
    def padding(self) -> Array | None:
        """Number of padding tokens on the left of each prompt; None for an encoder-decoder model."""
        return None if self._has_encoder else left_padding(self._inputs)

    def __call__(self, sequences: Array, order: Sequence[int] | None = None) -> Array:
        """Returns the logits of the token after each sequence (rows, vocabulary).

        Args:
            sequences: Prompts and the tokens generated so far.
            order: Rows of the last call that these sequences continue from; None: the same rows.

        Raises:
            InputError: They are longer than the decoder's positions.
        """
        if self._limit is not None and sequences.shape[1] > self._limit:
            raise InputError(
                f"the text grows to {sequences.shape[1]} tokens, and the model has {self._limit} positions",
                hint="fewer new tokens (max_new_tokens), or a shorter input",
            )
        inputs = self._inputs_of(sequences)
        if not self._use_cache:
            return self._last_logits(self._runner.run(inputs, **self._kwargs))
        if self._state is not None:
            inputs = self._last_token_inputs(inputs)
        outputs, self._state = self._runner.step(inputs, self._state, order, **self._kwargs)
        return self._last_logits(outputs)

    def last_logits(self, sequences: Array, count: int) -> Array:
        """Returns the logits after each of the last ``count`` tokens (rows, count, vocabulary), from one forward pass."""
        kwargs = dict(self._kwargs)
        if "logits_to_keep" in self._runner.accepts:
            kwargs["logits_to_keep"] = count
        outputs = self._runner.run(self._inputs_of(sequences), **kwargs)
        return np.asarray(outputs["logits"][:, -count:])

    def _inputs_of(self, sequences: Array) -> Arrays:
        if self._has_encoder:
            return self._encoder_decoder_inputs(sequences)
        return self._decoder_only_inputs(sequences)

    def _last_token_inputs(self, inputs: Arrays) -> Arrays:
        """Returns the last token and its token-wise inputs, and the whole attention mask."""
        tokens = inputs["decoder_input_ids" if self._has_encoder else "input_ids"]
        newest = {
            name: value[:, -1:]
            for name, value in inputs.items()
            if value.shape == tokens.shape and value.dtype.kind in "iu" and name != "attention_mask"
            if not self._has_encoder or name == "decoder_input_ids"
        }
        if "attention_mask" in inputs:
            newest["attention_mask"] = inputs["attention_mask"]
        return newest

    def _encoder_decoder_inputs(self, sequences: Array) -> Arrays:
        return {**self._inputs, "decoder_input_ids": sequences}

    def _decoder_only_inputs(self, sequences: Array) -> Arrays:
        prompts = self._inputs["input_ids"]
        new = sequences.shape[1] - prompts.shape[1]
        inputs = {**self._inputs}
        for name, value in self._inputs.items():
            # Attention masks are extended with ones, token types with zeros.
            if value.shape == prompts.shape and value.dtype.kind in "iu":
                fill = int(name == "attention_mask")
                inputs[name] = np.pad(value, ((0, 0), (0, new)), constant_values=fill)
        inputs["input_ids"] = sequences
        if self._computes_positions and "attention_mask" in inputs:
            mask = inputs["attention_mask"]
            inputs["position_ids"] = np.where(mask == 1, np.cumsum(mask, axis=1) - 1, 1)
        return inputs

    @staticmethod
    def _last_logits(outputs: Arrays) -> Array:
        return np.asarray(outputs["logits"][:, -1])


def left_padding(arrays: Mapping[str, Array]) -> Array | None:
    """Returns the number of padding tokens on the left of each text."""
    mask = arrays.get("attention_mask")
    return None if mask is None else np.asarray((mask != 0).argmax(axis=1))
