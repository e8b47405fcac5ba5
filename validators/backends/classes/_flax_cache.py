"""Decodes with the KV caches of transformers' Flax classes, whose length is fixed when they are created."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from equipoise.convert.core.framework_types import FlaxModel, JaxArray, JaxTree
from equipoise.validators.backends.base import Array, CacheState, Kwargs, Outputs

EXTRA_CACHE_TOKENS = 128
"""Length of a cache beyond the prompt in tokens, if the model has positions for them."""


class CachedDecoder:
    """The decoder of a model, and its encoder if it has one.

    Its state is a dict: ``cache``, ``length`` (tokens in the cache), ``capacity`` (its fixed length), ``encoded``
    (the encoder's output) and ``mask`` (the encoder's attention mask).

    Args:
        model: A Flax model of transformers with ``init_cache``.
        compiled: Whether to compile it; modules can be recorded only if not.
    """

    def __init__(self, model: FlaxModel, *, compiled: bool = True) -> None:
        import jax

        self.model = model
        self.is_encoder_decoder = hasattr(model, "encode")
        call = model.decode if self.is_encoder_decoder else model.__call__
        self.accepts = inspect.signature(call).parameters

        def step(params: JaxTree, cache: JaxTree, inputs: JaxTree) -> JaxTree:
            outputs = call(
                **inputs, params=params, past_key_values=cache, return_dict=True, train=False
            )
            return dict(outputs)

        def encode(params: JaxTree, inputs: JaxTree) -> JaxTree:
            return model.encode(**inputs, params=params, return_dict=True, train=False)

        self.decode = jax.jit(step) if compiled else step
        self.encode = jax.jit(encode) if compiled else encode

    def __call__(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState,
        order: list[int] | None,
    ) -> tuple[Outputs, CacheState]:
        """Calls the decoder once; the first call creates the cache and runs the encoder."""
        if state is not None and order is not None:
            state = _reorder_state(state, order)
        tokens = inputs["decoder_input_ids" if self.is_encoder_decoder else "input_ids"]
        if state is None:
            state = self._initial_state(inputs, tokens)
        decoder_inputs = self._decoder_inputs(inputs, tokens, state)
        accepted = {name: value for name, value in decoder_inputs.items() if name in self.accepts}
        outputs = self.decode(self.model.params, state["cache"], {**accepted, **kwargs})
        length = state["length"] + tokens.shape[1]
        return outputs, {**state, "cache": outputs["past_key_values"], "length": length}

    def _decoder_inputs(
        self, inputs: dict[str, Array], tokens: Array, state: CacheState
    ) -> dict[str, JaxTree]:
        batch, new = tokens.shape
        length, capacity = state["length"], state["capacity"]
        positions = np.arange(length, length + new)[None].repeat(batch, 0)
        mask = np.ones((batch, capacity), np.int64)
        if self.is_encoder_decoder:
            arrays = {"decoder_input_ids": tokens, "encoder_outputs": state["encoded"]}
            masks = {"decoder_attention_mask": mask, "encoder_attention_mask": state["mask"]}
            present_masks = {name: value for name, value in masks.items() if value is not None}
            return {**arrays, **present_masks, "decoder_position_ids": positions}
        input_mask = inputs.get("attention_mask", np.ones((batch, length + new), np.int64))
        mask[:, : input_mask.shape[1]] = input_mask
        position_ids = inputs.get("position_ids", positions)
        return {"input_ids": tokens, "attention_mask": mask, "position_ids": position_ids}

    def _initial_state(self, inputs: dict[str, Array], tokens: Array) -> dict[str, JaxTree]:
        batch, new = tokens.shape
        capacity = _cache_length(self.model, new)
        state: dict[str, Any] = {"length": 0, "capacity": capacity, "encoded": None, "mask": None}
        if not self.is_encoder_decoder:
            return {**state, "cache": self._empty_cache(batch, capacity)}
        names = ("input_ids", "input_features", "pixel_values", "attention_mask")
        encoder_inputs = {name: inputs[name].copy() for name in names if name in inputs}
        encoded = self.encode(self.model.params, encoder_inputs)
        mask = encoder_inputs.get("attention_mask") if "input_ids" in encoder_inputs else None
        cache = self._empty_cache(batch, capacity, encoded)
        return {**state, "cache": cache, "encoded": encoded, "mask": mask}

    def _empty_cache(self, batch: int, capacity: int, *encoded: JaxTree) -> JaxTree:
        """Returns a cache of zeros as ``init_cache`` creates it, without initializing the model's weights."""
        import jax

        shapes = jax.eval_shape(lambda: self.model.init_cache(batch, capacity, *encoded))
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _cache_length(model: FlaxModel, tokens: int) -> int:
    config = getattr(model.config, "decoder", model.config)
    names = ("max_position_embeddings", "n_positions", "max_target_positions")
    limits = [
        getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)
    ]
    return int(min([tokens + EXTRA_CACHE_TOKENS, *limits]))


def _reorder_state(state: dict[str, Any], order: list[int]) -> dict[str, JaxTree]:
    """Selects rows of the cache and of the encoder's output; cache indices have no batch axis."""
    import jax

    rows = np.asarray(order)

    def select(value: JaxArray) -> JaxArray:
        # With NumPy: XLA would compile a gather for every shape.
        return np.asarray(value)[rows] if getattr(value, "ndim", 0) > 0 else value

    return {
        **state,
        **{key: jax.tree.map(select, state[key]) for key in ("cache", "encoded", "mask")},
    }
