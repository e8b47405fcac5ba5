"""What the worker processes do for ``--with-tokenizer``: write programs that take texts, and run them. Called by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.exporters.text.text_program import (
    LabelAnswer,
    write_text_program,
    write_tokenizer_program,
)
from equipoise.exporters.text.token_rows import RowMaker, text_encoder
from equipoise.exporters.text.tokenizer_spec import TokenizerSpec


def write_tokenizer(spec: str, path: str) -> dict[str, Any]:
    """Writes a tokenizer as a program, without truncation.

    Args:
        spec: A file with the fields of a :class:`TokenizerSpec`.
        path: The file to write.

    Returns:
        ``tokens``, those that the tokenizer finds before anything else; or ``reason``, why there can be no such program.
    """
    try:
        maker = _read(spec)
    except InputError as error:
        return {"reason": error.message}
    write_tokenizer_program(maker, Path(path))
    return {"tokens": [one.content for one in maker.spec.added_tokens]}


def write_program(
    spec: str, program: str, path: str, limit: int | None, labels: Sequence[str], activation: str
) -> str:
    """Writes tokenizer and model as a program.

    Args:
        spec: A file with the fields of a :class:`TokenizerSpec`.
        program: The ONNX file of the model.
        path: The file to write beside it.
        limit: Most tokens of a text; None without a limit.
        labels: Names of the classes; empty if the model is no classifier.
        activation: What makes scores of a classifier's logits.

    Returns:
        Why there can be no such program; empty if it was written.
    """
    maker = replace(_read(spec), max_length=limit)
    answer = LabelAnswer(labels, activation) if labels else None
    try:
        write_text_program(maker, Path(program), Path(path), answer)
    except InputError as error:
        return error.message
    return ""


def run_program(path: str, texts: Sequence[str]) -> dict[str, Any]:
    """Runs a program on texts; returns its outputs by name as lists."""
    session = _open(path)
    names = [one.name for one in session.get_outputs()]
    values = session.run(names, {"text": np.array(list(texts), dtype=object)})
    return {name: value.tolist() for name, value in zip(names, values, strict=True)}


def run_tokens(path: str, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a program on token numbers; returns its outputs by name as lists."""
    session = _open(path)
    names = [one.name for one in session.get_outputs()]
    inputs = {
        one.name: np.asarray(tokens[one.name], np.int64)
        if one.name in tokens
        else np.zeros_like(tokens["input_ids"], np.int64)
        for one in session.get_inputs()
    }
    values = session.run(names, inputs)
    return {name: value.tolist() for name, value in zip(names, values, strict=True)}


def describe_program(path: str) -> dict[str, Any]:
    """Returns dtype and shape of a program's inputs and outputs."""
    session = _open(path)
    return {
        role: {one.name: {"dtype": one.type[7:-1], "shape": one.shape} for one in values}
        for role, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }


@cache
def _open(path: str) -> Any:
    import onnxruntime
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def _read(file: str) -> RowMaker:
    """Returns what a tokenizer makes of texts; measuring its characters takes seconds."""
    spec = TokenizerSpec(**json.loads(Path(file).read_text(encoding="utf-8")))
    return RowMaker(spec, text_encoder(spec))
