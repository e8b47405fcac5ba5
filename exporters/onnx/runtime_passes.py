"""Optimizes or quantizes a graph with ONNX Runtime, and prevents a fusion of ONNX Runtime that is wrong."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.core.framework_types import OnnxModel
from equipoise.exporters.onnx.external_data import (
    MIN_EXTERNAL_BYTES,
    external_data_path,
    save_model,
)

FIRST_OPSET_WITH_PAD_AXES = 18
"""The first opset in which ``Pad`` can name its axes."""


def prevent_pad_fusion(model: OnnxModel) -> list[str]:
    """Keeps ONNX Runtime from folding a ``Pad`` into the ``MaxPool`` that follows it; returns notes for artifact.json.

    ORT's ``Pad_Fusion`` turns a constant-zero ``Pad`` into the padding of the pool. But a pool pads with -inf, not with
    zeros, so the result differs wherever all other values of a window are negative (BiT's stem pads, then pools). The
    pass skips a ``Pad`` that names its axes, so the axes are written out; nothing else changes. onnxruntime 1.32 no
    longer does it; this can go when older releases need not run our programs.
    """
    import onnx_ir

    if model.opset_imports.get("", 0) < FIRST_OPSET_WITH_PAD_AXES:
        return []
    changed = 0
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
        changed += 1
    if not changed:
        return []
    return ["padding before MaxPool names its axes: ONNX Runtime fuses it wrongly"]


def optimize(path: Path, *, external: bool = False, limit: int | None = None) -> None:
    """Replaces a model by what ONNX Runtime rewrites it to; it then runs on ONNX Runtime only.

    The level is ``extended``: the next one lays out weights for the processor at hand.
    """
    import onnxruntime

    optimized = path.with_name(f"optimized-{path.name}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimized)
    if external_data_path(path).exists():
        key = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{key}_file_name", external_data_path(optimized).name)
        options.add_session_config_entry(f"{key}_min_size_in_bytes", str(MIN_EXTERNAL_BYTES))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    replace_model(path, optimized, external=external, limit=limit)


def quantize(path: Path, *, external: bool = False, limit: int | None = None) -> None:
    """Replaces a model by one whose matrices are int8.

    Recorded shapes of inner values are removed first: the quantizer transposes weights and leaves their shapes as they
    were (onnxruntime 1.32).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(path), load_external_data=False)
    del model.graph.value_info[:]
    onnx.save(model, str(path))
    quantized = path.with_name(f"quantized-{path.name}")
    quantize_dynamic(
        str(path),
        str(quantized),
        weight_type=QuantType.QInt8,
        use_external_data_format=external_data_path(path).exists(),
    )
    replace_model(path, quantized, external=external, limit=limit)


def replace_model(
    path: Path, replacement: Path, *, external: bool = False, limit: int | None = None
) -> None:
    """Replaces a model and its weights by another; references to files of weights stay right."""
    import onnx_ir

    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    save_model(onnx_ir.load(str(replacement)), path, external=external, limit=limit)
    for file in path.parent.glob(f"{replacement.name}*"):
        file.unlink()
