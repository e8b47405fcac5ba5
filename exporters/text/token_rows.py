"""From a vector of texts to padded rows of token numbers, as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from equipoise.convert.core.framework_types import OnnxGraph
from equipoise.exporters.text.byte_level_bpe import ByteLevelBpe
from equipoise.exporters.text.graph_builder import INT64, GraphBuilder
from equipoise.exporters.text.tokenizer_spec import TokenizerSpec, unsupported
from equipoise.exporters.text.unigram import Unigram
from equipoise.exporters.text.wordpiece import WordPiece


class TextEncoder(Protocol):
    """The part of a tokenizer between the special tokens."""

    def add_to(self, builder: GraphBuilder, text: str) -> str:
        """Adds the nodes for one text; returns the name of its token numbers: int64 (tokens,)."""


@dataclass(frozen=True)
class RowMaker:
    """What makes rows of token numbers of texts.

    Attributes:
        spec: The tokenizer.
        encoder: Its part between the special tokens.
        max_length: Most tokens of a row, the special ones included; None without a limit.
    """

    spec: TokenizerSpec
    encoder: TextEncoder
    max_length: int | None = None


def text_encoder(spec: TokenizerSpec) -> TextEncoder:
    """Returns the encoder of a tokenizer.

    Raises:
        InputError: No graph can be made of it; the message says why.
    """
    kinds: dict[str, Callable[[TokenizerSpec], TextEncoder]] = {
        "WordPiece": WordPiece,
        "BPE": ByteLevelBpe,
        "Unigram": Unigram,
    }
    if spec.kind not in kinds:
        raise unsupported(f"its model is {spec.kind}, not {', '.join(kinds)}")
    return kinds[spec.kind](spec)


def add_token_rows(builder: GraphBuilder, maker: RowMaker, texts: str) -> tuple[str, str]:
    """Adds the nodes that tokenize texts one by one and pad them to the longest.

    A text with more tokens than the model takes is truncated, as by ``truncation=True``.

    Args:
        builder: The graph.
        maker: The tokenizer.
        texts: Name of a vector of strings: (texts,).

    Returns:
        Names of ``input_ids`` and ``attention_mask``: int64 (texts, tokens).
    """
    count = builder.add("Size", [texts])
    first = builder.add(
        "Expand", [builder.integers(0), builder.integers(0, 0)]
    )  # no rows of no tokens
    no_lengths = builder.add("Expand", [builder.integers(0), builder.integers(0)])
    rows, lengths = builder.add_many(
        "Loop", [count, "", first, no_lengths], 2, body=_loop_body(builder, maker, texts)
    )
    width = builder.add("Gather", [builder.add("Shape", [rows]), builder.integer(1)])
    places = builder.add("Range", [builder.integer(0), width, builder.integer(1)])
    column = builder.add("Unsqueeze", [lengths, builder.integers(1)])
    if maker.spec.pads_left:
        is_token = builder.add("GreaterOrEqual", [places, builder.add("Sub", [width, column])])
    else:
        is_token = builder.add("Less", [places, column])
    return rows, builder.add("Cast", [is_token], to=INT64)


def _loop_body(outer: GraphBuilder, maker: RowMaker, texts: str) -> OnnxGraph:
    """Returns the body of the loop: tokenizes one text and appends its row to those before."""
    from onnx import TensorProto, helper

    body = GraphBuilder(f"{outer.prefix}loop_")
    index, going, rows, lengths = (
        body.new_name(role) for role in ("index", "going", "rows", "lengths")
    )
    text = body.add("Gather", [texts, body.add("Reshape", [index, body.integers(1)])])
    row = _with_special_tokens(body, maker, maker.encoder.add_to(body, text))
    length = body.add("Shape", [row])
    width = body.add("Slice", [body.add("Shape", [rows]), body.integers(1), body.integers(2)])
    longest = body.add("Max", [width, length])
    grown = _pad(body, maker.spec, rows, body.add("Sub", [longest, width]), axes=2)
    padded = _pad(body, maker.spec, row, body.add("Sub", [longest, length]), axes=1)
    row_of_one = body.add("Unsqueeze", [padded, body.integers(0)])
    outputs = [
        body.add("Identity", [going]),
        body.add("Concat", [grown, row_of_one], axis=0),
        body.add("Concat", [lengths, length], axis=0),
    ]
    info = helper.make_tensor_value_info
    kinds = (TensorProto.BOOL, TensorProto.INT64, TensorProto.INT64)
    shapes: tuple[list[None], ...] = ([], [None, None], [None])
    return body.graph(
        "one_text",
        [
            info(index, TensorProto.INT64, []),
            *map(info, (going, rows, lengths), kinds, shapes),
        ],
        list(map(info, outputs, kinds, shapes)),
    )


def _with_special_tokens(body: GraphBuilder, maker: RowMaker, tokens: str) -> str:
    """Adds truncation and the special tokens around a text."""
    spec = maker.spec
    if maker.max_length is not None:
        most = maker.max_length - len(spec.before) - len(spec.after)
        tokens = body.add("Slice", [tokens, body.integers(0), body.integers(most)])
    if not spec.before and not spec.after:
        return tokens
    parts = [tokens]
    if spec.before:
        parts.insert(0, body.integers(*spec.before))
    if spec.after:
        parts.append(body.integers(*spec.after))
    return body.add("Concat", parts, axis=0)


def _pad(body: GraphBuilder, spec: TokenizerSpec, rows: str, missing: str, *, axes: int) -> str:
    """Adds the padding of the last of one or two axes by ``missing`` tokens."""
    zeros = [body.integers(*[0] * (axes - 1))] if axes > 1 else []
    none = body.integers(0)
    amounts = (missing, none) if spec.pads_left else (none, missing)
    pads = body.add("Concat", [*zeros, amounts[0], *zeros, amounts[1]], axis=0)
    return body.add("Pad", [rows, pads, body.integer(spec.pad_index)])
