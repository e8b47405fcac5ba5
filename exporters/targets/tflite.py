"""TensorFlow Lite: one file for phones and small devices, converted from a JAX program by TensorFlow's converter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.exporters.cache_names import WHOLE_MODEL
from equipoise.exporters.target import INT8_DYNAMIC, ExportableModel

MIN_INT8_ELEMENTS = 1024
"""TensorFlow's converter quantizes matrices of at least this many elements."""


class TfLite:
    """A flat buffer with one signature; it only accepts the sizes of the example."""

    name = "tflite"
    program = "model.tflite"
    extra = "tensorflow,flax"
    needs = ("torch", "transformers", "jax", "tensorflow")
    ways = {  # noqa: RUF012 - an attribute of the protocol
        "export": "torch.export, then ATen's operators in JAX, jax2tf, and tf.lite.TFLiteConverter",
        "transformers": "DynamoExporter of transformers.exporters, then the same",
    }
    fixed = True
    quantizes = True

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports and lowers the module, and converts it at the requested precision.

        TensorFlow's converter replaces the StableHLO of ``jax2tf`` by operators of its own if all sizes are fixed;
        with dynamic sizes it fails.
        """
        import tensorflow as tf

        from equipoise.exporters.lowering.tensorflow_lite import for_tensorflow_lite
        from equipoise.exporters.programs.lower import lower_models
        from equipoise.exporters.programs.tf_function import trace_functions

        is_half = str(source.model.dtype) == "torch.float16"
        with _as_float32(source) as float32_source:
            graphs = lower_models({WHOLE_MODEL: float32_source}, way)
            with (
                for_tensorflow_lite(),
                trace_functions(graphs, ("cpu",)) as (module, functions, notes),
            ):
                (function,) = functions.values()
                converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
                if is_half:
                    converter.target_spec.supported_types = [tf.float16]
                if is_half or source.options.get("quantize"):
                    converter.optimizations = [tf.lite.Optimize.DEFAULT]
                data = bytes(converter.convert())
        path.write_bytes(data)
        notes = [*notes[1:], *_notes(data, source, is_half=is_half)]
        return {**graphs[WHOLE_MODEL].describe(), "notes": notes}


def _notes(data: bytes, source: ExportableModel, *, is_half: bool) -> list[str]:
    sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in source.tensors.items())
    notes = [f"sizes for good: {sizes}"]
    if is_half:
        notes.append("weights are stored as float16, and computed with in float32")
    if source.options.get("quantize") == INT8_DYNAMIC:
        count = _count_int8_tensors(data)
        notes.append(f"{count} tensors are int8: those of {MIN_INT8_ELEMENTS} elements and more")
    return notes


@contextmanager
def _as_float32(source: ExportableModel) -> Iterator[ExportableModel]:
    """Yields the model and its example in float32, the only float that TensorFlow Lite computes in.

    fp16 weights keep their values; the model returns to its dtype afterwards.
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
    import numpy as np
    import tensorflow as tf

    program = tf.lite.Interpreter(model_content=data)
    return sum(detail["dtype"] is np.int8 for detail in program.get_tensor_details())


TARGET = TfLite()
