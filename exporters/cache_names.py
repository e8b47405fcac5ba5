"""Names of KV caches: of their tensors and graphs in exported files, and of a model's cache in transformers.

The names in files are those that optimum and transformers.js expect. Exporters write them and backends read them.

transformers 5.24 renamed the argument and the output ``past_key_values`` (and ``cache_params`` of state-space models)
to ``cache``; it accepts the old argument, with a warning, until 5.40. The name is therefore read from the model at hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from equipoise.convert.core.framework_types import KvCache, TorchModel

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

CACHE_ARGUMENTS = ("past_key_values", "cache")
"""Names of the KV cache in ``forward``, as an argument and as an output: up to transformers 5.23, and from 5.24 on."""

STATE_OUTPUTS = frozenset((*CACHE_ARGUMENTS, "cache_params", "past_buckets_states", "mems"))
"""Outputs that hold the state of earlier tokens, not results."""


def past_name(present: str) -> str:
    """Returns the input that takes what an output gave.

    >>> past_name("present.0.key")
    'past_key_values.0.key'
    """
    return PAST_PREFIX + present.removeprefix(PRESENT_PREFIX)


def is_state(output: str) -> bool:
    """Returns whether an output, given by its dotted name, belongs to the state of earlier tokens.

    >>> is_state("cache.0.key"), is_state("past_key_values"), is_state("cached_logits")
    (True, True, False)
    """
    return output.partition(".")[0] in STATE_OUTPUTS


def cache_argument(model: TorchModel) -> str:
    """Returns the name under which ``model.forward`` takes a KV cache; an empty string if it takes none.

    A model whose state is no KV cache but that of a recurrence (Mamba, xLSTM) takes none.
    """
    parameters = inspect.signature(model.forward).parameters
    if "past_key_values" in parameters:
        return "past_key_values"
    # Up to 5.23 the state of a recurrence had another name than the KV cache.
    if "cache" in parameters and not _is_recurrence(model, parameters["cache"]):
        return "cache"
    return ""


def _is_recurrence(model: TorchModel, cache: inspect.Parameter) -> bool:
    from transformers import Cache

    types = [one for one in get_args(cache.annotation) if isinstance(one, type)]
    others = [one for one in types if one.__name__.endswith("Cache") and not issubclass(one, Cache)]
    layers = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    return bool(others) or set(layers) == {"linear_attention"}


def cache_of(outputs: Mapping[str, Any]) -> KvCache:
    """Returns the KV cache among the outputs of ``forward``.

    Raises:
        KeyError: There is none.
    """
    name = next((name for name in CACHE_ARGUMENTS if name in outputs.keys()), None)  # noqa: SIM118
    if name is None:
        raise KeyError(f"no KV cache among the outputs {', '.join(outputs)}")
    return outputs[name]
