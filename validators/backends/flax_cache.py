"""Decoding step by step with the caches of transformers' Flax classes, whose length is fixed from the start."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from equipoise.validators.backends.base import Array

BEYOND = 128
"""Tokens that a cache has room for beyond the prompt, where the model's positions allow them."""


def step(
    model: Any,
    inputs: dict[str, Array],
    kwargs: dict[str, Any],
    state: Any,
    order: list[int] | None,
) -> tuple[Any, Any]:
    """One call of the decoder; the first makes the cache (and runs the encoder)."""
    if state is not None and order is not None:
        state = _reordered(state, order)
    if hasattr(model, "encode"):
        return _encoder_decoder(model, inputs, kwargs, state)
    return _decoder(model, inputs, kwargs, state)


def _room(model: Any, tokens: int) -> int:
    config = model.config
    names = ("max_position_embeddings", "n_positions", "max_target_positions")
    held = [getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)]
    return int(min([tokens + BEYOND, *held]))


def _decoder(
    model: Any, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any
) -> tuple[Any, Any]:
    ids = inputs["input_ids"]
    batch, new = ids.shape
    if state is None:
        length = _room(model, new)
        state = {"cache": model.init_cache(batch, length), "done": 0, "length": length}
    done, length = state["done"], state["length"]
    seen = inputs.get("attention_mask", np.ones((batch, done + new), np.int64))
    mask = np.ones((batch, length), np.int64)
    mask[:, : seen.shape[1]] = seen
    positions = inputs.get("position_ids", np.arange(done, done + new)[None].repeat(batch, 0))
    outputs = model(
        input_ids=ids.copy(),
        attention_mask=mask,
        position_ids=positions.copy(),
        past_key_values=state["cache"],
        return_dict=True,
        train=False,
        **kwargs,
    )
    return outputs, {"cache": outputs.past_key_values, "done": done + new, "length": length}


def _encoder_decoder(
    model: Any, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any
) -> tuple[Any, Any]:
    ids = inputs["decoder_input_ids"]
    batch, new = ids.shape
    if state is None:
        state = _encoded(model, inputs, batch, new)
    done, length = state["done"], state["length"]
    accepted = inspect.signature(model.decode).parameters
    positions = np.arange(done, done + new)[None].repeat(batch, 0)
    extra: dict[str, Any] = {
        "decoder_attention_mask": np.ones((batch, length), np.int64),
        "decoder_position_ids": positions,
        "encoder_attention_mask": state["mask"],
    }
    outputs = model.decode(
        ids.copy(),
        state["encoded"],
        past_key_values=state["cache"],
        return_dict=True,
        train=False,
        **{name: value for name, value in extra.items() if name in accepted and value is not None},
        **kwargs,
    )
    return outputs, {**state, "cache": outputs.past_key_values, "done": done + new}


def _encoded(model: Any, inputs: dict[str, Array], batch: int, new: int) -> dict[str, Any]:
    names = ("input_ids", "input_features", "pixel_values", "attention_mask")
    given = {name: inputs[name].copy() for name in names if name in inputs}
    encoded = model.encode(**given, return_dict=True, train=False)
    length = _room(model, new)
    return {
        "cache": model.init_cache(batch, length, encoded),
        "encoded": encoded,
        "mask": given.get("attention_mask") if "input_ids" in given else None,
        "done": 0,
        "length": length,
    }


def _reordered(state: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """Rows of the cache and of what the encoder gave; indices of a cache have no batch."""
    import jax

    rows = np.asarray(order)

    def picked(value: Any) -> Any:
        return value[rows] if getattr(value, "ndim", 0) > 0 else value

    keys = ("cache", "encoded", "mask")
    return {**state, **{key: jax.tree.map(picked, state[key]) for key in keys if key in state}}
