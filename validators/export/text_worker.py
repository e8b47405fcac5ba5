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
from equipoise.validators.core.types import Array

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
"""ONNX Runtime's names of dtypes that differ from NumPy's."""


def write_tokenizer(spec: str, path: str, limit: int | None = None) -> dict[str, Any]:
    """Writes a tokenizer as a program.

    Args:
        spec: A file with the fields of a :class:`TokenizerSpec`.
        path: The file to write.
        limit: Most tokens of a text; None without a limit.

    Returns:
        ``tokens``, those that the tokenizer finds before anything else; or ``reason``, why there can be no such program.
    """
    try:
        maker = replace(_read(spec), max_length=limit)
        if Path(path).suffix == ".onnx":
            write_tokenizer_program(maker, Path(path))
        else:
            from equipoise.exporters.text.tensorflow_program import save_tokenizer

            save_tokenizer(maker, Path(path))
    except InputError as error:
        return {"reason": error.message}
    return {"tokens": [one.content for one in maker.spec.added_tokens]}


def write_program(
    spec: str, program: str, path: str, limit: int | None, labels: Sequence[str], activation: str
) -> str:
    """Writes tokenizer and model as a program.

    Args:
        spec: A file with the fields of a :class:`TokenizerSpec`.
        program: The ONNX file or the SavedModel of the model.
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
        if Path(path).suffix == ".onnx":
            write_text_program(maker, Path(program), Path(path), answer)
        else:
            from equipoise.exporters.text.tensorflow_program import save_from_text

            save_from_text(maker, Path(program), Path(path), answer)
    except InputError as error:
        return error.message
    return ""


def run_program(path: str, texts: Sequence[str]) -> dict[str, Any]:
    """Runs a program on texts; returns its outputs by name as lists."""
    return _to_lists(_open(path)({"text": np.array(list(texts), dtype=object)}))


def run_tokens(path: str, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a program on token numbers; returns its outputs by name as lists."""
    call = _open(path)
    ids = np.array(tokens["input_ids"], np.int64)
    given = {name: tokens.get(name, np.zeros_like(ids)) for name in call.inputs}
    arrays = {name: np.array(value, call.inputs[name]["dtype"]) for name, value in given.items()}
    return _to_lists(call(arrays))


def describe_program(path: str) -> dict[str, Any]:
    """Returns dtype and shape of a program's inputs and outputs."""
    call = _open(path)
    return {"inputs": call.inputs, "outputs": call.outputs}


def _to_lists(outputs: Mapping[str, Array]) -> dict[str, Any]:
    return {
        name: value.astype(str).tolist() if value.dtype == object else value.tolist()
        for name, value in outputs.items()
    }


class OnnxCall:
    """Calls an ONNX program.

    Attributes:
        inputs: Dtype and shape of the inputs by name.
        outputs: The same of the outputs.
    """

    def __init__(self, path: str) -> None:
        import onnxruntime
        from onnxruntime_extensions import get_library_path

        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(get_library_path())
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.inputs, self.outputs = (
            {
                one.name: {"dtype": _DTYPES.get(one.type, one.type[7:-1]), "shape": one.shape}
                for one in values
            }
            for values in (self._session.get_inputs(), self._session.get_outputs())
        )

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name."""
        values = self._session.run(list(self.outputs), dict(inputs))
        return dict(zip(self.outputs, values, strict=True))


class SavedModelCall:
    """Calls a SavedModel; see :class:`OnnxCall`."""

    def __init__(self, path: str) -> None:
        import tensorflow as tf

        from equipoise.exporters.text.tensorflow_program import load_operators

        load_operators()
        self._model = tf.saved_model.load(path)
        self._call = self._model.signatures["serving_default"]
        self.inputs, self.outputs = (
            {
                name: {"dtype": one.dtype.name, "shape": list(one.shape)}
                for name, one in sorted(values.items())
            }
            for values in (
                self._call.structured_input_signature[1],
                self._call.structured_outputs,
            )
        )

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name."""
        import tensorflow as tf

        given = {
            name: tf.constant(
                value.tolist() if value.dtype == object else value, self.inputs[name]["dtype"]
            )
            for name, value in inputs.items()
        }
        outputs = {name: value.numpy() for name, value in self._call(**given).items()}
        return {
            name: np.array([one.decode() for one in value], object)
            if value.dtype == object
            else value
            for name, value in outputs.items()
        }


@cache
def _open(path: str) -> OnnxCall | SavedModelCall:
    return OnnxCall(path) if Path(path).suffix == ".onnx" else SavedModelCall(path)


@cache
def _read(file: str) -> RowMaker:
    """Returns what a tokenizer makes of texts; measuring its characters takes seconds."""
    spec = TokenizerSpec(**json.loads(Path(file).read_text(encoding="utf-8")))
    return RowMaker(spec, text_encoder(spec))
