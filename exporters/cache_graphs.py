"""Splits a text generation model into the graphs that are exported with a KV cache.

A decoder-only model becomes one graph: tokens and the past (which may be empty) in, logits and the present out. An
encoder-decoder model becomes three: the encoder, the decoder for the first tokens, and the decoder with past, which
reads the encoder's result from cached keys and values only. Names are those of optimum.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from equipoise.convert.core.framework_types import KvCache, TorchModel, TorchTensor
from equipoise.exporters.cache_names import (
    KEY_VALUE,
    PAST_PREFIX,
    PRESENT_PREFIX,
    WHOLE_MODEL,
    cache_argument,
    cache_of,
)
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.wrap_model import run_example, with_signature

NEW_TOKENS = 2
"""New tokens in the example: torch.export would specialize a length of one."""

INPUT_AXES = {
    "input_ids": {0: "batch_size", 1: "sequence_length"},
    "position_ids": {0: "batch_size", 1: "sequence_length"},
    "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
    "encoder_attention_mask": {0: "batch_size", 1: "encoder_sequence_length"},
    "encoder_hidden_states": {0: "batch_size", 1: "encoder_sequence_length"},
}
PAST_AXES = {0: "batch_size", 2: "past_sequence_length"}
DECODER_TOKEN_AXES = {0: "batch_size", 1: "decoder_sequence_length"}
DECODER_PAST_AXES = {0: "batch_size", 2: "past_decoder_sequence_length"}
CROSS_ATTENTION_AXES = {0: "batch_size", 2: "encoder_sequence_length"}
AXES_THAT_MAY_BE_EMPTY = frozenset({PAST_AXES[2], DECODER_PAST_AXES[2]})

Tensors = dict[str, TorchTensor]


@dataclass(frozen=True)
class CacheGraph:
    """One of the graphs.

    Attributes:
        role: ``model``, ``encoder``, ``decoder`` or ``decoder_with_past``.
        call: Maps tensors by name to outputs by name.
        tensors: Example inputs.
        axes: The dynamic axes of each input.
    """

    role: str
    call: Callable[..., Tensors]
    tensors: Tensors
    axes: Mapping[str, Mapping[int, str]]


def cache_graphs(
    model: TorchModel,
    tensors: Tensors,
    kwargs: dict[str, Any],
    axes: Mapping[str, Mapping[int, str]],
    options: Mapping[str, Any],
) -> dict[str, ExportableModel]:
    """Returns the graphs of a model by role, ready for a target.

    Args:
        model: The model.
        tensors: Example inputs of one forward pass of the whole model.
        kwargs: Further keyword arguments of the model's forward.
        axes: The dynamic axes of the example inputs.
        options: Options of the target.
    """
    if "decoder_input_ids" in tensors:
        graphs = _encoder_decoder_graphs(model, tensors, kwargs, axes)
    else:
        graphs = [_decoder_graph(model, tensors, kwargs)]
    return {graph.role: _exportable_graph(model, graph, options) for graph in graphs}


def _exportable_graph(
    model: TorchModel, graph: CacheGraph, options: Mapping[str, Any]
) -> ExportableModel:
    names = list(graph.tensors)

    def call(*args: Any, **inputs: Any) -> Tensors:
        return graph.call(**{**dict(zip(names, args, strict=False)), **inputs})

    exportable = ExportableModel(
        module=with_signature(model, names, call),
        model=model,
        tensors=graph.tensors,
        axes=graph.axes,
        outputs=(),
        options=options,
        empty=AXES_THAT_MAY_BE_EMPTY,
    )
    return replace(exportable, outputs=tuple(run_example(exportable)))


def _decoder_graph(model: TorchModel, tensors: Tensors, kwargs: dict[str, Any]) -> CacheGraph:
    """Returns the graph of a decoder-only model; the example has a past and two new tokens.

    Raises:
        NotImplementedError: The model takes more than text, which only the first of its steps has.
    """
    not_text = [name for name in tensors if name not in INPUT_AXES]
    if not_text:
        raise NotImplementedError(
            f"a graph with a KV cache is exported for text inputs only; the model takes {', '.join(not_text)} too"
        )
    past_length = tensors["input_ids"].shape[1] - NEW_TOKENS
    earlier = {name: value[:, :past_length] for name, value in tensors.items()}
    past = cache_tensors(_full_cache(model, {**earlier, **kwargs}), f"{PAST_PREFIX}{{}}")
    inputs = {
        name: value if name == "attention_mask" else value[:, past_length:]
        for name, value in tensors.items()
    }

    argument = cache_argument(model)
    layers = len(past) // len(KEY_VALUE)

    def call(**given: TorchTensor) -> Tensors:
        result = model(
            **{name: given[name] for name in inputs},
            **kwargs,
            **{argument: build_cache(given, f"{PAST_PREFIX}{{}}", layers)},
            use_cache=True,
            return_dict=True,
        )
        present = cache_tensors(cache_of(result), f"{PRESENT_PREFIX}{{}}")
        return {"logits": result.logits, **present}

    axes = {**{name: INPUT_AXES[name] for name in inputs}, **dict.fromkeys(past, PAST_AXES)}
    return CacheGraph(WHOLE_MODEL, call, {**inputs, **past}, axes)


def _full_cache(model: TorchModel, inputs: dict[str, Any]) -> KvCache:
    """Runs a model with a cache that keeps all tokens in every layer, sliding windows included.

    A layer with a sliding window would keep the tokens of its window only, so that the past of one graph had several
    lengths. The attention mask hides what is outside of a window just as well.
    """
    from transformers import DynamicCache

    cache = {cache_argument(model): DynamicCache()}
    return cache_of(model(**inputs, **cache, use_cache=True, return_dict=True))


def _encoder_decoder_graphs(
    model: TorchModel,
    tensors: Tensors,
    kwargs: dict[str, Any],
    axes: Mapping[str, Mapping[int, str]],
) -> list[CacheGraph]:
    """Returns encoder, decoder and decoder with past."""
    encoder = model.get_encoder()
    accepted = inspect.signature(encoder.forward).parameters
    inputs = {
        name: value for name, value in tensors.items() if name in accepted and "decoder" not in name
    }

    def encode(**given: TorchTensor) -> Tensors:
        return {"last_hidden_state": encoder(**given, return_dict=True).last_hidden_state}

    has_mask = "attention_mask" in tensors
    mask = {"encoder_attention_mask": tensors["attention_mask"]} if has_mask else {}
    encoded = {"encoder_hidden_states": encode(**inputs)["last_hidden_state"], **mask}
    decode = _decoder_forward(model, kwargs, has_mask=has_mask)
    return [
        CacheGraph("encoder", encode, inputs, _axes_of_encoder(axes, inputs)),
        *_decoder_graphs(decode, tensors["decoder_input_ids"], encoded),
    ]


def _decoder_forward(
    model: TorchModel, kwargs: dict[str, Any], *, has_mask: bool
) -> Callable[[Mapping[str, TorchTensor], KvCache | None], Any]:
    """Returns the forward pass of the decoder, given the encoder's result and a cache."""
    from transformers.modeling_outputs import BaseModelOutput

    argument = cache_argument(model)

    def decode(given: Mapping[str, TorchTensor], cache: KvCache | None) -> Any:
        mask = {"attention_mask": given["encoder_attention_mask"]} if has_mask else {}
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


def _decoder_graphs(
    decode: Callable[[Mapping[str, TorchTensor], KvCache | None], Any],
    tokens: TorchTensor,
    encoded: Tensors,
) -> list[CacheGraph]:
    """Returns the decoder for the first tokens and the one that continues."""
    from transformers import EncoderDecoderCache

    result = decode({"input_ids": tokens[:, :-NEW_TOKENS], **encoded}, None)
    past = encoder_decoder_cache_tensors(cache_of(result), f"{PAST_PREFIX}{{}}")
    layers = len(past) // (2 * len(KEY_VALUE))

    def begin(**given: TorchTensor) -> Tensors:
        result = decode(given, None)
        present = encoder_decoder_cache_tensors(cache_of(result), f"{PRESENT_PREFIX}{{}}")
        return {"logits": result.logits, **present}

    def go_on(**given: TorchTensor) -> Tensors:
        self_attention = build_cache(given, f"{PAST_PREFIX}{{}}.decoder", layers)
        cross_attention = build_cache(given, f"{PAST_PREFIX}{{}}.encoder", layers)
        result = decode(given, EncoderDecoderCache(self_attention, cross_attention))
        own = cache_of(result).self_attention_cache
        return {"logits": result.logits, **cache_tensors(own, f"{PRESENT_PREFIX}{{}}.decoder")}

    first = {"input_ids": tokens, **encoded}
    continued = {"input_ids": tokens[:, -NEW_TOKENS:], **encoded, **past}
    return [
        CacheGraph("decoder", begin, first, _axes_of_inputs(first)),
        CacheGraph("decoder_with_past", go_on, continued, _axes_of_inputs(continued)),
    ]


def _axes_of_encoder(
    axes: Mapping[str, Mapping[int, str]], inputs: Collection[str]
) -> dict[str, dict[int, str]]:
    """Returns the axes of the encoder's inputs; beside a decoder, their length is that of the encoder."""
    own = {"sequence_length": "encoder_sequence_length"}
    return {
        name: {axis: own.get(symbol, symbol) for axis, symbol in axes[name].items()}
        for name in inputs
    }


def _axes_of_inputs(tensors: Mapping[str, TorchTensor]) -> dict[str, dict[int, str]]:
    known = {**INPUT_AXES, "input_ids": DECODER_TOKEN_AXES}
    return {
        name: known.get(name, CROSS_ATTENTION_AXES if ".encoder." in name else DECODER_PAST_AXES)
        for name in tensors
    }


def cache_tensors(cache: KvCache, name: str) -> Tensors:
    """Returns the keys and values of a cache by name; ``{}`` in the name becomes the layer."""
    tensors = {}
    for index, layer in enumerate(cache.layers):
        for part, tensor in zip(KEY_VALUE, (layer.keys, layer.values), strict=True):
            tensors[f"{name.format(index)}.{part}"] = tensor
    return tensors


def encoder_decoder_cache_tensors(cache: KvCache, name: str) -> Tensors:
    """Returns self-attention and cross-attention tensors layer by layer: optimum reads them by their order."""
    self_attention = cache_tensors(cache.self_attention_cache, f"{name}.decoder")
    cross_attention = cache_tensors(cache.cross_attention_cache, f"{name}.encoder")
    tensors = {**self_attention, **cross_attention}
    return dict(sorted(tensors.items(), key=lambda pair: int(pair[0].split(".")[1])))


def build_cache(tensors: Mapping[str, TorchTensor], name: str, layers: int) -> KvCache:
    """Returns a cache that holds these tensors.

    The layers are filled directly: ``update`` would concatenate with an empty tensor, and tracers record that.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    for index in range(layers):
        layer = DynamicLayer()
        layer.keys, layer.values = (tensors[f"{name.format(index)}.{part}"] for part in KEY_VALUE)
        layer.dtype, layer.device = layer.keys.dtype, layer.keys.device
        layer.is_initialized = True
        cache.layers.append(layer)
    return cache
