"""Names of KV cache tensors and of the graphs that share a cache, as optimum and transformers.js expect them.

Exporters write these names and backends read them; this module imports nothing, so both sides can.
"""

from __future__ import annotations

PAST_PREFIX = "past_key_values."
"""Prefix of the inputs of a graph that hold the keys and values of earlier tokens."""

PRESENT_PREFIX = "present."
"""Prefix of the outputs that hold the keys and values of all tokens so far."""

KEY_VALUE = ("key", "value")
"""The two tensors of one layer: ``past_key_values.0.key``, ``past_key_values.0.value``."""

ROLES = ("encoder", "decoder", "decoder_with_past")
"""Graphs of an encoder-decoder model: the encoder, the decoder for the first tokens, and the one that continues."""

WHOLE_MODEL = "model"
"""Role of the only graph of a model without an encoder."""

USE_CACHE_BRANCH = "use_cache_branch"
"""Boolean input of a merged decoder: True runs the branch that continues from a cache."""

CACHE_OUTPUTS = ("past_key_values", "past_buckets_states", "mems")
"""Outputs of models that are cache state, not results."""


def past_name(present: str) -> str:
    """Returns the input that takes what an output gave.

    >>> past_name("present.0.key")
    'past_key_values.0.key'
    """
    return PAST_PREFIX + present.removeprefix(PRESENT_PREFIX)
