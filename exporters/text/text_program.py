"""Writes ONNX programs that take texts: a tokenizer alone, or a tokenizer with a model and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.core.framework_types import OnnxModel
from equipoise.exporters.text.graph_builder import ML, OPSETS, GraphBuilder
from equipoise.exporters.text.token_rows import RowMaker, add_token_rows
from equipoise.exporters.text.tokenizer_spec import unsupported

TEXT_INPUT = "text"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_PREFIX = "text_"
_MIN_OPSET = 18


@dataclass(frozen=True)
class LabelAnswer:
    """Labels and scores of a classifier.

    Attributes:
        labels: Names of the classes.
        activation: What makes scores of logits: ``softmax``, ``sigmoid`` or ``none``.
    """

    labels: Sequence[str]
    activation: str


def write_tokenizer_program(maker: RowMaker, path: Path) -> None:
    """Writes a program with the input ``text`` and the outputs ``input_ids`` and ``attention_mask``."""
    import onnx
    from onnx import TensorProto, helper

    builder = GraphBuilder(_PREFIX)
    found = add_token_rows(builder, maker, TEXT_INPUT)
    for name, value in zip((IDS, MASK), found, strict=True):
        builder.nodes.append(helper.make_node("Identity", [value], [name]))
    info = helper.make_tensor_value_info
    graph = builder.graph(
        "tokenizer",
        [info(TEXT_INPUT, TensorProto.STRING, ["batch_size"])],
        [info(name, TensorProto.INT64, ["batch_size", "sequence_length"]) for name in (IDS, MASK)],
    )
    onnx.save(
        helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(*one) for one in {"": _MIN_OPSET, **OPSETS}.items()],
            ir_version=9,
        ),
        path,
    )


def write_text_program(
    maker: RowMaker, program: Path, path: Path, answer: LabelAnswer | None
) -> None:
    """Writes a program that takes texts and gives the outputs of a model, and its labels.

    Args:
        maker: The tokenizer.
        program: The model, with the inputs ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``.
        path: The file to write, in the same folder: weights outside of the file are shared.
        answer: Labels of a classifier, whose output is ``logits``; adds the outputs ``label`` and ``score``.

    Raises:
        InputError: The model has other inputs.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(program, load_external_data=False)
    builder = GraphBuilder(_PREFIX)
    ids, mask = add_token_rows(builder, maker, TEXT_INPUT)
    _feed(builder, model, ids, mask)
    text = helper.make_tensor_value_info(TEXT_INPUT, TensorProto.STRING, ["batch_size"])
    model.graph.ClearField("input")
    model.graph.input.append(text)
    nodes = [*builder.nodes, *model.graph.node]
    answers = []
    if answer is not None:
        after = GraphBuilder(f"{_PREFIX}answer_")
        answers = _add_labels(after, answer)
        nodes += after.nodes
        builder.initializers += after.initializers
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(builder.initializers)
    results = [*answers, *model.graph.output]
    model.graph.ClearField("output")
    model.graph.output.extend(results)
    known = {one.domain for one in model.opset_import}
    model.opset_import.extend(
        helper.make_opsetid(*one) for one in OPSETS.items() if one[0] not in known
    )
    onnx.save(model, path)


def _feed(builder: GraphBuilder, model: OnnxModel, ids: str, mask: str) -> None:
    """Adds the nodes that name the tokens as the model's inputs are named.

    Raises:
        InputError: The model has an input that is not known.
    """
    from onnx import helper

    for one in model.graph.input:
        if one.name not in (IDS, MASK, TYPES):
            raise unsupported(f"the model takes {one.name!r} beside the tokens of a text")
        value = {IDS: ids, MASK: mask}.get(one.name)
        if value is None:
            value = builder.add("Sub", [ids, ids])  # the first text's type is 0
        builder.nodes.append(helper.make_node("Identity", [value], [one.name]))


def _add_labels(builder: GraphBuilder, answer: LabelAnswer) -> list[object]:
    """Adds the best label of each text and its score; returns the descriptions of both outputs."""
    from onnx import TensorProto, helper

    logits = "logits"
    scores = {
        "softmax": lambda: builder.add("Softmax", [logits], axis=-1),
        "sigmoid": lambda: builder.add("Sigmoid", [logits]),
        "none": lambda: builder.add("Identity", [logits]),
    }[answer.activation]()
    best = builder.add("ArgMax", [scores], axis=-1, keepdims=0)
    label = builder.add(
        "LabelEncoder",
        [best],
        domain=ML,
        keys_int64s=list(range(len(answer.labels))),
        values_strings=list(answer.labels),
        default_string="",
    )
    score = builder.add("ReduceMax", [scores, builder.integers(-1)], keepdims=0)
    info = helper.make_tensor_value_info
    described = []
    for name, value, kind in (
        ("label", label, TensorProto.STRING),
        ("score", score, TensorProto.FLOAT),
    ):
        builder.nodes.append(helper.make_node("Identity", [value], [name]))
        described.append(info(name, kind, ["batch_size"]))
    return described
