"""The names that transformers has for a model's KV cache: as an argument of ``forward`` and among its outputs.

transformers 5.24 renamed the argument and the output ``past_key_values`` (and ``cache_params`` of state-space models) to
``cache``; it accepts the old argument, with a warning, until 5.40. A name is therefore read from the model at hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

CACHE_ARGUMENTS = ("past_key_values", "cache")
"""Names of the KV cache in ``forward``, as an argument and as an output: up to transformers 5.23, and from 5.24 on."""

STATE_OUTPUTS = frozenset(
    (*CACHE_ARGUMENTS, "cache_params", "past_buckets_states", "mems"),
)
"""Outputs that are a state to go on from, not results."""


def is_state(output: str) -> bool:
    """Says whether an output, by its dotted name, belongs to a state.

    >>> is_state("cache.0.key"), is_state("past_key_values"), is_state("cached_logits")
    (True, True, False)
    """
    return output.partition(".")[0] in STATE_OUTPUTS


def cache_argument(model: Any) -> str:
    """Returns the name under which ``model.forward`` takes a KV cache, or an empty string if it takes none.

    A model whose state is no KV cache, a recurrence (Mamba, xLSTM), takes none.
    """
    parameters = inspect.signature(model.forward).parameters
    if "past_key_values" in parameters:
        return "past_key_values"
    # Up to 5.23 a recurrence's state had a name of its own.
    if "cache" in parameters and not _is_recurrence(model, parameters["cache"]):
        return "cache"
    return ""


def _is_recurrence(model: Any, cache: inspect.Parameter) -> bool:
    from transformers import Cache

    kinds = [one for one in get_args(cache.annotation) if isinstance(one, type)]
    others = [one for one in kinds if one.__name__.endswith("Cache") and not issubclass(one, Cache)]
    layers = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    return bool(others) or set(layers) == {"linear_attention"}


def cache_of(outputs: Mapping[str, Any]) -> Any:
    """Returns the KV cache among the outputs of ``forward``.

    Raises:
        KeyError: There is none.
    """
    name = next((name for name in CACHE_ARGUMENTS if name in outputs.keys()), None)  # noqa: SIM118
    if name is None:
        raise KeyError(f"no KV cache among the outputs {', '.join(outputs)}")
    return outputs[name]
