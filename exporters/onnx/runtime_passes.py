"""What ONNX Runtime makes of an exported graph: fused, kept from a fusion that is wrong, or with weights of eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.onnx.external_data import (
    MIN_EXTERNAL_BYTES,
    external_data_path,
    save_model,
)

INT8_DYNAMIC = "int8-dynamic"
"""Weights as int8, activations quantized while it runs."""

FIRST_OPSET_WITH_PAD_AXES = 18
"""The first opset in which ``Pad`` can name its axes."""


def prevent_pad_fusion(model: Any) -> list[str]:
    """Keeps ONNX Runtime from fusing a ``Pad`` with the ``MaxPool`` after it; gives what there is to note.

    The pool's own padding counts as lower than everything, the one that is fused in was zeros: where all else is
    negative the result is another. It fuses no ``Pad`` that names its axes.
    """
    import onnx_ir

    if model.opset_imports.get("", 0) < FIRST_OPSET_WITH_PAD_AXES:
        return []
    kept = 0
    for pool in model.graph.all_nodes():
        pad = pool.inputs[0].producer() if pool.op_type == "MaxPool" and pool.inputs[0] else None
        if pad is None or pad.op_type != "Pad" or len(pad.inputs) > 3:
            continue
        rank = len(pool.attributes["kernel_shape"].as_ints()) + 2
        axes = onnx_ir.Value(
            name=f"{pad.outputs[0].name}_axes",
            const_value=onnx_ir.tensor(list(range(rank)), dtype=onnx_ir.DataType.INT64),
        )
        model.graph.register_initializer(axes)
        pad.resize_inputs(4)
        pad.replace_input_with(3, axes)
        kept += 1
    return ["padding before MaxPool names its axes: ONNX Runtime fuses it wrongly"] if kept else []


def optimize(path: Path, *, external: bool = False, limit: int | None = None) -> None:
    """Replaces a graph by what ONNX Runtime rewrites it to; it then runs on ONNX Runtime alone."""
    import onnxruntime

    made = path.with_name(f"optimized-{path.name}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The next level lays weights out for the processor at hand.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(made)
    if external_data_path(path).exists():
        key = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{key}_file_name", external_data_path(made).name)
        options.add_session_config_entry(f"{key}_min_size_in_bytes", str(MIN_EXTERNAL_BYTES))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    replace_model(path, made, external=external, limit=limit)


def quantize(path: Path, *, external: bool = False, limit: int | None = None) -> None:
    """Replaces a graph by one whose matrices are int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(path), load_external_data=False)
    # The quantizer transposes weights and leaves the shapes that were noted of them as they were.
    del model.graph.value_info[:]
    onnx.save(model, str(path))
    made = path.with_name(f"quantized-{path.name}")
    many = external_data_path(path).exists()
    quantize_dynamic(
        str(path), str(made), weight_type=QuantType.QInt8, use_external_data_format=many
    )
    replace_model(path, made, external=external, limit=limit)


def replace_model(
    path: Path, made: Path, *, external: bool = False, limit: int | None = None
) -> None:
    """Puts a new graph and its weights in the place of the old one; names within stay right."""
    import onnx_ir

    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    save_model(onnx_ir.load(str(made)), path, external=external, limit=limit)
    for file in path.parent.glob(f"{made.name}*"):
        file.unlink()
