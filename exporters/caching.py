"""Makes the graphs of a model that writes with a cache. Runs in a worker process, where the framework is.

A decoder is one graph: tokens and the past (which may be empty) in, scores and the present out. Behind an encoder
there are three: the encoder, the decoder for the first tokens, and the decoder with past, which no longer needs what
the encoder gave but as keys and values. Names are those that optimum gives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from equipoise.exporters import kv_cache
from equipoise.exporters.base import Source
from equipoise.exporters.making import (
    first,
    opened,
    target_of,
    tensors_of,
    with_signature,
)

NEW = 2
"""Tokens of the example that are new: a length of one would be taken for a constant."""

AXES = {
    "input_ids": {0: "batch", 1: "sequence"},
    "position_ids": {0: "batch", 1: "sequence"},
    "attention_mask": {0: "batch", 1: "total_sequence"},
    "encoder_attention_mask": {0: "batch", 1: "encoder_sequence"},
    "encoder_hidden_states": {0: "batch", 1: "encoder_sequence"},
}
PAST = {0: "batch", 2: "past_sequence"}
MAY_BE_EMPTY = frozenset({"past_sequence"})
PARTS = ("key", "value")
ENCODED = {0: "batch", 2: "encoder_sequence"}


@dataclass(frozen=True)
class Graph:
    """One of the graphs.

    Attributes:
        role: ``model``, ``encoder``, ``decoder`` or ``decoder_with_past``.
        call: From tensors by name to outputs by name.
        tensors: The example.
        axes: Which of their axes vary.
    """

    role: str
    call: Callable[..., dict[str, Any]]
    tensors: dict[str, Any]
    axes: Mapping[str, Mapping[int, str]]


def make(
    target: str,
    way: str,
    folder: str,
    class_name: str,
    inputs: str,
    output: str,
    axes: Mapping[str, Mapping[str, str]],
    kwargs: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    patch: str = "",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the graphs beside ``output``; see :func:`equipoise.exporters.making.make`."""
    start = time.perf_counter()
    model, notes = opened(folder, class_name, dtype, device, patch)
    tensors = tensors_of(inputs, model)
    plain = dict(kwargs or {})
    seq2seq = "decoder_input_ids" in tensors
    outer = {name: {int(axis): text for axis, text in one.items()} for name, one in axes.items()}
    graphs = (
        _seq2seq(model, tensors, plain, outer) if seq2seq else [_decoder(model, tensors, plain)]
    )
    tool: Any = target_of(target)
    sources = {graph.role: _source(model, graph, options) for graph in graphs}
    made: dict[str, Any] = tool.make_graphs(way, sources, Path(output))
    told = [note for one in made.values() for note in one.get("notes", [])]
    notes = [*dict.fromkeys(told), *notes]
    return {**_told(made), "seconds": time.perf_counter() - start, "notes": notes}


def _told(made: dict[str, Any]) -> dict[str, Any]:
    """What all graphs say, under one roof."""
    graphs = {
        role: {"file": one["file"], "inputs": one["graph_inputs"], "outputs": one["graph_outputs"]}
        for role, one in made.items()
    }
    (opset,) = {one.get("opset") for one in made.values()}
    alone = made.get("model")
    if alone is None:
        return {"opset": opset, "graphs": graphs, "outputs": {}}
    shapes = {key: alone[key] for key in ("graph_inputs", "graph_outputs")}
    return {"opset": opset, **shapes, "outputs": {}}


def _source(model: Any, graph: Graph, options: Mapping[str, Any] | None) -> Source:
    names = list(graph.tensors)

    def call(*args: Any, **given: Any) -> dict[str, Any]:
        return graph.call(**{**dict(zip(names, args, strict=False)), **given})

    module = with_signature(model, names, call)
    given = dict(options or {})
    source = Source(module, model, graph.tensors, graph.axes, (), {}, given, MAY_BE_EMPTY)
    return replace(source, outputs=tuple(first(source)))


def _decoder(model: Any, tensors: dict[str, Any], kwargs: dict[str, Any]) -> Graph:
    """A decoder without encoder."""
    tokens = tensors["input_ids"]
    past = tokens.shape[1] - NEW
    earlier = {name: value[:, :past] for name, value in tensors.items()}
    state = _state(model, {**earlier, **kwargs})
    example = {
        name: value if name == "attention_mask" else value[:, past:]
        for name, value in tensors.items()
    }
    keys = pairs(state, "past_key_values.{}")
    argument = kv_cache.cache_argument(model)

    def call(**given: Any) -> dict[str, Any]:
        cache = cache_of(given, "past_key_values.{}", len(keys) // 2)
        plain = {name: given[name] for name in example}
        given_cache = {argument: cache}
        result = model(**plain, **kwargs, **given_cache, use_cache=True, return_dict=True)
        return {"logits": result.logits, **pairs(kv_cache.cache_of(result), "present.{}")}

    axes = {**{name: AXES[name] for name in example}, **dict.fromkeys(keys, PAST)}
    return Graph("model", call, {**example, **keys}, axes)


def _state(model: Any, inputs: dict[str, Any]) -> Any:
    """Keys and values of all tokens in every layer, windows or not: the mask keeps a window as well as forgetting does.

    Of their own, layers with a window would keep its tokens alone, and the past would have several lengths.
    """
    from transformers import DynamicCache

    whole = {kv_cache.cache_argument(model): DynamicCache()}
    return kv_cache.cache_of(model(**inputs, **whole, use_cache=True, return_dict=True))


def _seq2seq(
    model: Any,
    tensors: dict[str, Any],
    kwargs: dict[str, Any],
    outer: Mapping[str, Mapping[int, str]],
) -> list[Graph]:
    """Encoder, decoder, decoder with past."""
    import inspect

    encoder = model.get_encoder()
    taken = inspect.signature(encoder.forward).parameters
    sources = {name: tensors[name] for name in tensors if name in taken and "decoder" not in name}

    def encode(**given: Any) -> dict[str, Any]:
        return {"last_hidden_state": encoder(**given, return_dict=True).last_hidden_state}

    masked = "attention_mask" in tensors
    mask = {"encoder_attention_mask": tensors["attention_mask"]} if masked else {}
    encoded = {"encoder_hidden_states": encode(**sources)["last_hidden_state"], **mask}
    axes = {name: outer[name] for name in sources}
    decode = _decode(model, kwargs, masked=masked)
    return [
        Graph("encoder", encode, sources, axes),
        *_decoders(decode, tensors["decoder_input_ids"], encoded),
    ]


def _decode(model: Any, kwargs: dict[str, Any], *, masked: bool) -> Callable[..., Any]:
    """The decoder's pass behind what the encoder gave."""
    from transformers.modeling_outputs import BaseModelOutput

    argument = kv_cache.cache_argument(model)

    def decode(given: Mapping[str, Any], cache: Any) -> Any:
        mask = {"attention_mask": given["encoder_attention_mask"]} if masked else {}
        return model(
            **mask,
            **kwargs,
            encoder_outputs=BaseModelOutput(last_hidden_state=given["encoder_hidden_states"]),
            decoder_input_ids=given["input_ids"],
            **{argument: cache},
            use_cache=True,
            return_dict=True,
        )

    return decode


def _decoders(decode: Callable[..., Any], tokens: Any, encoded: dict[str, Any]) -> list[Graph]:
    """The decoder that begins and the one that goes on."""
    from transformers import EncoderDecoderCache

    past = decode({"input_ids": tokens[:, :-NEW], **encoded}, None)
    keys = both(kv_cache.cache_of(past), "past_key_values.{}")
    layers = len(keys) // 4

    def begin(**given: Any) -> dict[str, Any]:
        result = decode(given, None)
        return {"logits": result.logits, **both(kv_cache.cache_of(result), "present.{}")}

    def go_on(**given: Any) -> dict[str, Any]:
        own = cache_of(given, "past_key_values.{}.decoder", layers)
        cross = cache_of(given, "past_key_values.{}.encoder", layers)
        result = decode(given, EncoderDecoderCache(own, cross))
        present = pairs(kv_cache.cache_of(result).self_attention_cache, "present.{}.decoder")
        return {"logits": result.logits, **present}

    begun = {"input_ids": tokens, **encoded}
    going = {"input_ids": tokens[:, -NEW:], **encoded, **keys}
    return [
        Graph("decoder", begin, begun, _axes(begun)),
        Graph("decoder_with_past", go_on, going, _axes(going)),
    ]


def _axes(tensors: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    return {name: AXES.get(name, ENCODED if ".encoder." in name else PAST) for name in tensors}


def pairs(cache: Any, name: str) -> dict[str, Any]:
    """Keys and values of a cache's layers by name."""
    found = {}
    for index, layer in enumerate(cache.layers):
        found[f"{name.format(index)}.key"] = layer.keys
        found[f"{name.format(index)}.value"] = layer.values
    return found


def both(cache: Any, name: str) -> dict[str, Any]:
    """The same of a cache for itself and for what the encoder gave, layer by layer: optimum goes by the order."""
    own = pairs(cache.self_attention_cache, f"{name}.decoder")
    every = {**own, **pairs(cache.cross_attention_cache, f"{name}.encoder")}
    return dict(sorted(every.items(), key=lambda pair: int(pair[0].split(".")[1])))


def cache_of(given: Mapping[str, Any], name: str, layers: int) -> Any:
    """A cache that holds these tensors."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    for index in range(layers):
        layer = DynamicLayer()
        layer.keys, layer.values = (given[f"{name.format(index)}.{part}"] for part in PARTS)
        layer.dtype, layer.device = layer.keys.dtype, layer.keys.device
        # Not through an update: it would join the tensors to an empty one, and tracers follow.
        layer.is_initialized = True
        cache.layers.append(layer)
    return cache
