"""TensorFlow Lite: one file for phones and small devices, out of a JAX program by TensorFlow's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel


class TfLite:
    """A flat buffer with one signature; its inputs have the sizes of the example for good."""

    name = "tflite"
    program = "model.tflite"
    extra = "tensorflow"
    needs = ("torch", "transformers", "jax", "tensorflow")
    ways = {  # noqa: RUF012 - a plain attribute of the protocol
        "export": "torch.export, then ATen's operators in JAX, jax2tf, and tf.lite.TFLiteConverter",
        "transformers": "DynamoExporter of transformers.exporters, then the same",
    }
    fixed = True
    quantizes = True

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports the module, lowers the graph, and converts it with its weights at the wanted precision."""
        from equipoise.exporters.programs.tflite_program import convert_to_tflite

        data, notes = convert_to_tflite(source, way)
        path.write_bytes(data)
        return {"notes": notes}


TARGET = TfLite()
