"""Runs programs with a KV cache on any runtime: a decoder with past, or encoder, decoder and decoder with past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from equipoise.exporters.cache_names import PAST_PREFIX, PRESENT_PREFIX, USE_CACHE_BRANCH, past_name
from equipoise.validators.backends.base import Array, BaseSession, CacheState, Kwargs, Outputs

State = dict[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """Shape and dtype of an input of a graph.

    Attributes:
        shape: The sizes; a size that is no integer is dynamic.
        dtype: NumPy's dtype.
    """

    shape: tuple[Any, ...]
    dtype: Any


class NamedGraph(Protocol):
    """A program with named inputs and outputs."""

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        """Shape and dtype of each input by name."""
        ...

    def call(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs for the given inputs, which must be exactly those of :attr:`inputs`."""
        ...


class StatelessGraph:
    """A graph without a cache."""

    caches = False

    def __init__(self, graph: NamedGraph) -> None:
        self.graph = graph
        self.accepts = frozenset(graph.inputs)

    def step(
        self, inputs: Mapping[str, Array], state: State | None, order: list[int] | None
    ) -> tuple[dict[str, Array], State]:
        """Returns the outputs and an empty cache."""
        return self.graph.call(inputs), {}


class DecoderGraph:
    """A decoder in one graph, which starts with an empty past.

    Args:
        graph: The graph.
        length_multiple: The length of the past is rounded up to a multiple of this number by padding on the left, where the
            attention mask hides it. A runtime that compiles the program for each length then compiles it less often.
            Only done if the graph accepts position ids: a model that derives positions from the past would count the
            padding.
    """

    caches = True

    def __init__(self, graph: NamedGraph, length_multiple: int = 1) -> None:
        self.graph = graph
        self.accepts = frozenset(name for name in graph.inputs if not name.startswith(PAST_PREFIX))
        self.length_multiple = (
            length_multiple if {"attention_mask", "position_ids"} <= self.accepts else 1
        )

    def step(
        self, inputs: Mapping[str, Array], state: State | None, order: list[int] | None
    ) -> tuple[dict[str, Array], State]:
        """Returns the outputs, and the past of the next step."""
        rows = len(next(iter(inputs.values())))
        past = empty_past(self.graph, rows) if state is None else reorder_cache(state, order)
        padding = -next(iter(past.values())).shape[2] % self.length_multiple
        values = {**inputs, **{name: _pad_left(value, padding, 2) for name, value in past.items()}}
        if padding:
            values["attention_mask"] = _pad_left(values["attention_mask"], padding, 1)
        results, present = split_present(self.graph.call(values))
        return results, {name: value[:, :, padding:] for name, value in present.items()}


class EncoderDecoderGraphs:
    """An encoder, a decoder for the first token, and a decoder with past for all others.

    Both decoders may be the same graph.
    """

    caches = True

    def __init__(self, encoder: NamedGraph, decoder: NamedGraph, with_past: NamedGraph) -> None:
        self.encoder, self.decoder, self.with_past = encoder, decoder, with_past
        mask_names = {"attention_mask"} if "encoder_attention_mask" in decoder.inputs else set()
        self.accepts = frozenset({*encoder.inputs, "decoder_input_ids", *mask_names})

    def step(
        self, inputs: Mapping[str, Array], state: State | None, order: list[int] | None
    ) -> tuple[dict[str, Array], State]:
        """Runs encoder and decoder in the first step, and the decoder with past in all others."""
        tokens = {"input_ids": inputs["decoder_input_ids"]}
        if state is None:
            encoded = self._encode(inputs)
            nothing = empty_past(self.decoder, len(tokens["input_ids"]))
            values = _call_graph(self.decoder, {**tokens, **encoded, **nothing}, go_on=False)
        else:
            encoded = reorder_cache(state, order)
            values = _call_graph(self.with_past, {**tokens, **encoded}, go_on=True)
        outputs, past = split_present(values)
        return outputs, {**encoded, **past}

    def _encode(self, inputs: Mapping[str, Array]) -> State:
        encoder_inputs = {name: inputs[name] for name in self.encoder.inputs if name in inputs}
        encoded = {"encoder_hidden_states": self.encoder.call(encoder_inputs)["last_hidden_state"]}
        if "attention_mask" in inputs:
            encoded["encoder_attention_mask"] = inputs["attention_mask"]
        return encoded


GraphModel = StatelessGraph | DecoderGraph | EncoderDecoderGraphs


class GraphSession(BaseSession):
    """A session that runs one or several graphs as one model.

    Attributes:
        model: The graphs as one model; see :func:`assemble_graphs`.
    """

    model: GraphModel

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs of one forward pass by name."""
        outputs, _ = self.model.step(inputs, None, None)
        return outputs

    def step(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState, order: list[int] | None
    ) -> tuple[Outputs, CacheState]:
        """Runs one forward pass with a cache; see :meth:`equipoise.validators.backends.base.Session.step`."""
        return self.model.step(inputs, state, order)


def assemble_graphs(graphs: Mapping[str, NamedGraph], length_multiple: int = 1) -> GraphModel:
    """Returns several graphs as one model.

    Args:
        graphs: The graphs by role: ``model``, or ``encoder``, ``decoder`` and ``decoder_with_past``.
        length_multiple: See :class:`DecoderGraph`.
    """
    if "model" not in graphs:
        return EncoderDecoderGraphs(
            graphs["encoder"], graphs["decoder"], graphs["decoder_with_past"]
        )
    graph = graphs["model"]
    return DecoderGraph(graph, length_multiple) if has_past(graph) else StatelessGraph(graph)


def has_past(graph: NamedGraph) -> bool:
    """Checks whether a graph accepts past keys and values."""
    return any(name.startswith(PAST_PREFIX) for name in graph.inputs)


def empty_past(graph: NamedGraph, rows: int) -> State:
    """Returns past keys and values of length 0."""
    return {
        name: np.zeros((rows, spec.shape[1], 0, spec.shape[3]), spec.dtype)
        for name, spec in graph.inputs.items()
        if name.startswith(PAST_PREFIX)
    }


def reorder_cache(state: State, order: list[int] | None) -> State:
    """Selects rows of a cache."""
    if order is None:
        return state
    return {name: value[order] for name, value in state.items()}


def split_present(outputs: Mapping[str, Array]) -> tuple[dict[str, Array], State]:
    """Splits outputs into results and present keys and values; the latter get the names of the next step's past."""
    results = {
        name: value for name, value in outputs.items() if not name.startswith(PRESENT_PREFIX)
    }
    past = {
        past_name(name): value for name, value in outputs.items() if name.startswith(PRESENT_PREFIX)
    }
    return results, past


def _pad_left(value: Array, count: int, axis: int) -> Array:
    """Adds zeros in front along an axis."""
    if not count:
        return value
    widths = [(count if index == axis else 0, 0) for index in range(value.ndim)]
    return np.pad(value, widths)


def _call_graph(graph: NamedGraph, values: Mapping[str, Array], *, go_on: bool) -> dict[str, Array]:
    """Calls a graph with those of the values that it accepts."""
    all_values = {**values, USE_CACHE_BRANCH: np.array([go_on])}
    return graph.call({name: all_values[name] for name in graph.inputs})
