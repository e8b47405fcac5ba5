"""Left padding of a KV cache does not change the results of decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from equipoise.validators.backends._graph_cache import (
    DecoderGraph,
    EncoderDecoderGraphs,
    InputSpec,
    StatelessGraph,
    assemble_graphs,
)

TOKENS = np.array([[0, 3, 5, 2, 7, 4, 1], [6, 2, 4, 4, 5, 3, 2]])
MASK = np.array([[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])


class Attention:
    """One head of attention over numbers, whose keys are the tokens and their positions."""

    def __init__(self, *left_out: str) -> None:
        names = [name for name in ("attention_mask", "position_ids") if name not in left_out]
        self.inputs: dict[str, InputSpec] = {
            **{name: InputSpec(("batch", "sequence"), np.int64) for name in ("input_ids", *names)},
            "past_key_values.0.key": InputSpec(("batch", 1, "past", 2), np.float64),
        }
        self.lengths: list[int] = []

    def call(self, values: Mapping[str, Any]) -> dict[str, Any]:
        past = values["past_key_values.0.key"]
        self.lengths.append(past.shape[2])
        tokens = values["input_ids"]
        counted = np.arange(tokens.shape[1])[None].repeat(len(tokens), 0) + past.shape[2]
        positions = values.get("position_ids", counted)
        own = np.stack([np.sin(tokens), np.cos(positions)], axis=-1)[:, None]
        keys = np.concatenate([past, own], axis=2)
        scores = own @ keys.swapaxes(-1, -2)
        later = np.triu(np.ones(scores.shape[-2:]), keys.shape[2] - tokens.shape[1] + 1)
        hidden = later[None, None] + (values["attention_mask"] == 0)[:, None, None]
        seen = np.where(hidden > 0, -1e9, scores)
        weights = np.exp(seen - seen.max(-1, keepdims=True))
        return {
            "logits": (weights @ keys / weights.sum(-1, keepdims=True))[:, 0],
            "present.0.key": keys,
        }


def decode_in_steps(decoder: DecoderGraph, first: int) -> Any:
    """Returns the outputs for the first tokens at once and the others one by one, with rows exchanged in between."""
    state, found, order = None, [], None
    rows = np.array([0, 1])
    positions = np.cumsum(MASK, axis=1) - 1
    for start, end in [(0, first), *((at, at + 1) for at in range(first, TOKENS.shape[1]))]:
        inputs = {
            "input_ids": TOKENS[rows, start:end],
            "attention_mask": MASK[rows, :end],
            "position_ids": positions[rows, start:end],
        }
        given = {name: value for name, value in inputs.items() if name in decoder.accepts}
        outputs, state = decoder.step(given, state, order)
        found.append(outputs["logits"][:, -1])
        order = [1, 0] if end == first else None
        rows = rows[[1, 0]] if end == first else rows
    return np.stack(found)


@pytest.mark.parametrize("first", [2, 4, 5])
def test_left_padding_of_the_cache_is_masked(first: int) -> None:
    plain, filled = Attention(), Attention()
    expected = decode_in_steps(DecoderGraph(plain), first)
    found = decode_in_steps(DecoderGraph(filled, length_multiple=4), first)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    assert plain.lengths == [0, *range(first, 7)]
    assert filled.lengths == [0, *(-(-length // 4) * 4 for length in range(first, 7))]


def test_a_model_that_counts_its_cache_gets_it_unpadded() -> None:
    graph = Attention("position_ids")
    decode_in_steps(DecoderGraph(graph, length_multiple=4), 3)
    assert graph.lengths == [0, 3, 4, 5, 6]


def test_role_of_graphs() -> None:
    class Plain(Attention):
        def __init__(self) -> None:
            super().__init__()
            del self.inputs["past_key_values.0.key"]

    assert isinstance(assemble_graphs({"model": Attention()}), DecoderGraph)
    assert isinstance(assemble_graphs({"model": Plain()}), StatelessGraph)
    roles = {role: Plain() for role in ("encoder", "decoder", "decoder_with_past")}
    together = assemble_graphs(roles)
    assert isinstance(together, EncoderDecoderGraphs)
    assert together.accepts == {"input_ids", "attention_mask", "position_ids", "decoder_input_ids"}
