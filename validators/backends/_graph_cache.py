"""Decoding with a cache over programs, whatever runs them: a decoder with its past, or encoder, decoder, decoder with past."""

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
    """What a graph takes under a name.

    Attributes:
        shape: Sizes; what is no integer is open.
        dtype: Of numpy.
    """

    shape: tuple[Any, ...]
    dtype: Any


class NamedGraph(Protocol):
    """A program with named arrays on both sides."""

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        """What it takes."""
        ...

    def call(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs for exactly its inputs."""
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
        """The outputs; there is nothing to go on from."""
        return self.graph.call(inputs), {}


class DecoderGraph:
    """A decoder in one graph; it begins with an empty past.

    Args:
        graph: The graph.
        chunk: The past is filled up on its left, where the mask hides it, to multiples of so many tokens: what compiles
            a program for each length then compiles it once in so many steps. Only where positions are an input too:
            a model that counts the past itself would count what was filled up.
    """

    caches = True

    def __init__(self, graph: NamedGraph, chunk: int = 1) -> None:
        self.graph = graph
        self.accepts = frozenset(name for name in graph.inputs if not name.startswith(PAST_PREFIX))
        self.chunk = chunk if {"attention_mask", "position_ids"} <= self.accepts else 1

    def step(
        self, inputs: Mapping[str, Array], state: State | None, order: list[int] | None
    ) -> tuple[dict[str, Array], State]:
        """The outputs after a past, and the past of the next step."""
        rows = len(next(iter(inputs.values())))
        past = empty_past(self.graph, rows) if state is None else reorder_cache(state, order)
        room = -next(iter(past.values())).shape[2] % self.chunk
        values = {**inputs, **{name: _pad_left(value, room, 2) for name, value in past.items()}}
        if room:
            values["attention_mask"] = _pad_left(values["attention_mask"], room, 1)
        results, present = split_present(self.graph.call(values))
        return results, {name: value[:, :, room:] for name, value in present.items()}


class EncoderDecoderGraphs:
    """An encoder, a decoder that begins and one that goes on, these two in one graph or in two."""

    caches = True

    def __init__(self, encoder: NamedGraph, decoder: NamedGraph, with_past: NamedGraph) -> None:
        self.encoder, self.decoder, self.with_past = encoder, decoder, with_past
        masked = {"attention_mask"} if "encoder_attention_mask" in decoder.inputs else set()
        self.accepts = frozenset({*encoder.inputs, "decoder_input_ids", *masked})

    def step(
        self, inputs: Mapping[str, Array], state: State | None, order: list[int] | None
    ) -> tuple[dict[str, Array], State]:
        """The first time through the encoder; then through the decoder with past alone."""
        tokens = {"input_ids": inputs["decoder_input_ids"]}
        if state is None:
            kept = self._encoded(inputs)
            nothing = empty_past(self.decoder, len(tokens["input_ids"]))
            values = _call_graph(self.decoder, {**tokens, **kept, **nothing}, go_on=False)
        else:
            kept = reorder_cache(state, order)
            values = _call_graph(self.with_past, {**tokens, **kept}, go_on=True)
        outputs, past = split_present(values)
        return outputs, {**kept, **past}

    def _encoded(self, inputs: Mapping[str, Array]) -> State:
        given = {name: inputs[name] for name in self.encoder.inputs if name in inputs}
        kept = {"encoder_hidden_states": self.encoder.call(given)["last_hidden_state"]}
        if "attention_mask" in inputs:
            kept["encoder_attention_mask"] = inputs["attention_mask"]
        return kept


GraphModel = StatelessGraph | DecoderGraph | EncoderDecoderGraphs


class GraphSession(BaseSession):
    """A session over graphs, which does what they do together.

    Attributes:
        model: What :func:`assemble_graphs` made of them.
    """

    model: GraphModel

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """The outputs by their names."""
        outputs, _ = self.model.step(inputs, None, None)
        return outputs

    def step(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState, order: list[int] | None
    ) -> tuple[Outputs, CacheState]:
        """The same, going on from a cache."""
        return self.model.step(inputs, state, order)


def assemble_graphs(graphs: Mapping[str, NamedGraph], chunk: int = 1) -> GraphModel:
    """What the graphs are together.

    Args:
        graphs: By role: ``model``, or ``encoder``, ``decoder`` and ``decoder_with_past``.
        chunk: See :class:`DecoderGraph`.
    """
    if "model" not in graphs:
        return EncoderDecoderGraphs(
            graphs["encoder"], graphs["decoder"], graphs["decoder_with_past"]
        )
    graph = graphs["model"]
    return DecoderGraph(graph, chunk) if has_past(graph) else StatelessGraph(graph)


def has_past(graph: NamedGraph) -> bool:
    """Whether a graph takes a past."""
    return any(name.startswith(PAST_PREFIX) for name in graph.inputs)


def empty_past(graph: NamedGraph, rows: int) -> State:
    """A past of no tokens."""
    return {
        name: np.zeros((rows, one.shape[1], 0, one.shape[3]), one.dtype)
        for name, one in graph.inputs.items()
        if name.startswith(PAST_PREFIX)
    }


def reorder_cache(state: State, order: list[int] | None) -> State:
    """The rows of a cache to go on with."""
    if order is None:
        return state
    return {name: value[order] for name, value in state.items()}


def split_present(outputs: Mapping[str, Array]) -> tuple[dict[str, Array], State]:
    """Results, and the present as the past of the next step."""
    results = {
        name: value for name, value in outputs.items() if not name.startswith(PRESENT_PREFIX)
    }
    past = {
        past_name(name): value for name, value in outputs.items() if name.startswith(PRESENT_PREFIX)
    }
    return results, past


def _pad_left(value: Array, room: int, axis: int) -> Array:
    """With so many zeros in front along an axis."""
    if not room:
        return value
    widths = [(room if one == axis else 0, 0) for one in range(value.ndim)]
    return np.pad(value, widths)


def _call_graph(graph: NamedGraph, values: Mapping[str, Array], *, go_on: bool) -> dict[str, Array]:
    """A graph's outputs for those of the values that it takes."""
    every = {**values, USE_CACHE_BRANCH: np.array([go_on])}
    return graph.call({name: every[name] for name in graph.inputs})
