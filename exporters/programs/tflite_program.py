"""A lowered graph as a program of TensorFlow Lite.

TensorFlow's converter takes the StableHLO of ``jax2tf`` apart into operators of its own, if all sizes are known: with
open ones it fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from equipoise.exporters.programs.jax_program import lower_models
from equipoise.exporters.programs.tf_function import trace_functions
from equipoise.exporters.target import ExportableModel

INT8_DYNAMIC = "int8-dynamic"
MIN_INT8_ELEMENTS = 1024
"""Elements of a matrix that the converter makes int8 of."""


def convert_to_tflite(source: ExportableModel, way: str) -> tuple[bytes, list[str]]:
    """The file, and what there is to note."""
    import tensorflow as tf

    half = _model_dtype(source) == "float16"
    with _as_float32(source) as wide:
        graphs = lower_models({"model": wide}, way)
        with trace_functions(graphs, ("cpu",)) as (module, functions, notes):
            (function,) = functions.values()
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
            if half:
                converter.target_spec.supported_types = [tf.float16]
            if half or source.options.get("quantize"):
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            data = bytes(converter.convert())
    sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in source.tensors.items())
    notes = [*notes[1:], f"sizes for good: {sizes}"]
    if half:
        notes.append("weights are stored as float16, and computed with in float32")
    if source.options.get("quantize") == INT8_DYNAMIC:
        notes.append(
            f"{_count_int8_tensors(data)} tensors are int8: those of {MIN_INT8_ELEMENTS} elements and more"
        )
    return data, notes


def _model_dtype(source: ExportableModel) -> str:
    return str(source.model.dtype).removeprefix("torch.")


@contextmanager
def _as_float32(source: ExportableModel) -> Iterator[ExportableModel]:
    """The model and its example in float32: operators of TensorFlow Lite compute in nothing else.

    Weights of float16 keep their values, and become float16 again afterwards.
    """
    dtype = source.model.dtype
    tensors = {
        name: value.float() if value.is_floating_point() else value
        for name, value in source.tensors.items()
    }
    source.module.float()
    try:
        yield replace(source, tensors=tensors)
    finally:
        source.module.to(dtype)


def _count_int8_tensors(data: bytes) -> int:
    """How many tensors of a file are of eight bits."""
    import numpy as np
    import tensorflow as tf

    program = tf.lite.Interpreter(model_content=data)
    return sum(detail["dtype"] is np.int8 for detail in program.get_tensor_details())
