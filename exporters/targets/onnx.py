"""ONNX: a graph that ONNX Runtime and many others run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from equipoise.exporters.onnx.external_data import (
    remove_unused_inputs,
    save_model,
    share_external_data,
)
from equipoise.exporters.onnx.fx_cleanup import remove_noop_squeezes
from equipoise.exporters.onnx.merge_decoders import merge_decoders
from equipoise.exporters.onnx.optimizer_fix import use_exact_elimination_rules
from equipoise.exporters.onnx.runtime_passes import (
    INT8_DYNAMIC,
    optimize,
    prevent_pad_fusion,
    quantize,
)
from equipoise.exporters.shapes.branch_check import check_size_branches
from equipoise.exporters.shapes.input_specs import limit_notes
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.torch_export import export_program, export_with_transformers


class Onnx:
    """A graph whose inputs and outputs have the names of the field."""

    name = "onnx"
    program = "model.onnx"
    extra = "onnx"
    needs = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    ways = {  # noqa: RUF012 - a plain attribute of the protocol
        "dynamo": "torch.export, then torch.onnx.export(dynamo=True)",
        "transformers": "OnnxExporter of transformers.exporters",
        "trace": "torch.onnx.export(dynamo=False), which traces with torch.jit",
    }
    quantizes = True

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports, names inputs and outputs, and has the result checked with shape inference."""
        opset = source.options.get("opset")
        make = {
            "dynamo": _export_dynamo,
            "transformers": _export_transformers,
            "trace": _export_trace,
        }[way]
        model, notes = make(source, opset, path)
        _name_inputs_and_outputs(model, source)
        remove_unused_inputs(model)
        notes += prevent_pad_fusion(model)
        placing: dict[str, Any] = {
            "external": bool(source.options.get("external")),
            "limit": source.options.get("max_shard_size"),
        }
        save_model(model, path, **placing)
        if source.options.get("optimize"):
            optimize(path, **placing)
        if source.options.get("quantize") == INT8_DYNAMIC:
            quantize(path, **placing)
        return {**check_and_describe(path), "notes": notes}

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """A file for each graph, called as optimum calls it; several share ``weights.data``."""
        made: dict[str, dict[str, Any]] = {}
        for role, source in sources.items():
            file = path if role == "model" else path.with_name(f"{role}_model.onnx")
            made[role] = {"file": file.name, **self.make(way, source, file)}
        if len(made) == 1:
            return made
        files = [path.with_name(one["file"]) for one in made.values()]
        options = sources["encoder"].options
        share_external_data(files, path.with_name("weights.data"), options.get("max_shard_size"))
        for file in files:
            check_and_describe(file)
        return _merge_decoders(made, path) if options.get("merged") else made


def _merge_decoders(made: Mapping[str, dict[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    """Both decoders in one file."""
    file = path.with_name("decoder_model_merged.onnx")
    first, going = (path.with_name(made[role]["file"]) for role in ("decoder", "decoder_with_past"))
    merge_decoders(first, going, file)
    return {
        "encoder": made["encoder"],
        "decoder_merged": {"file": file.name, **check_and_describe(file)},
    }


def _export_dynamo(source: ExportableModel, opset: int | None, path: Path) -> tuple[Any, list[str]]:
    import torch

    found = check_size_branches(source, export_program)
    traced = found.program
    # ONNX has no guards, and torch 2.13 fails at running those on a length that is a sum of two others.
    traced._guards_code = []
    remove_noop_squeezes(traced)
    use_exact_elimination_rules()
    program = torch.onnx.export(
        traced,
        dynamo=True,
        verbose=False,
        opset_version=opset,
        output_names=list(source.outputs),
        optimize=True,
    )
    return program.model, limit_notes(found.limits, traced, tuple(source.tensors), source.axes)


def _export_transformers(
    source: ExportableModel, opset: int | None, path: Path
) -> tuple[Any, list[str]]:
    use_exact_elimination_rules()
    return export_with_transformers(source, "onnx", opset_version=opset), []


def _export_trace(source: ExportableModel, opset: int | None, path: Path) -> tuple[Any, list[str]]:
    import onnx_ir
    import torch

    names = list(source.tensors)
    axes = {name: dict(source.axes[name]) for name in names}
    # Beyond 2 GiB the tracer writes a file for every weight.
    with TemporaryDirectory(dir=path.parent) as folder:
        file = str(Path(folder) / path.name)
        torch.onnx.export(
            source.module,
            tuple(source.tensors.values()),
            file,
            dynamo=False,
            input_names=names,
            output_names=list(source.outputs),
            dynamic_axes=axes,
            opset_version=opset,
        )
        model = onnx_ir.load(file)
        onnx_ir.external_data.load_to_model(model)
    for value in model.graph.outputs:
        # The tracer wrote down the example's sizes.
        value.shape = onnx_ir.Shape([None] * len(value.shape or ()))
    return model, []


def _name_inputs_and_outputs(model: Any, source: ExportableModel) -> None:
    """The graph's axes carry the symbols of the source; its outputs the names of the model's."""
    import onnx_ir

    known = dict(zip((value.name for value in model.graph.inputs), source.tensors, strict=False))
    symbols: dict[str, str] = {}
    for value in model.graph.inputs:
        name = known[value.name] if value.name not in source.axes else value.name
        value.name = name
        for axis, symbol in source.axes[name].items():
            if value.shape is not None and not isinstance(value.shape[axis], int):
                symbols[_symbol_text(value.shape[axis])] = symbol
    for value, name in zip(model.graph.outputs, source.outputs, strict=False):
        value.name = name
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            sizes = [symbols.get(_symbol_text(size), size) for size in value.shape]
            value.shape = onnx_ir.Shape(sizes)
    _drop_inner_shapes(model)


def _symbol_text(size: Any) -> str:
    return str(getattr(size, "value", size))


def _drop_inner_shapes(model: Any) -> None:
    """Shapes of inner values were noted with other symbols; whoever needs them infers them again."""
    kept = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    kept |= {id(value) for value in model.graph.initializers.values()}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if id(value) not in kept:
                value.shape = None


def check_and_describe(path: Path) -> dict[str, Any]:
    """What the written file says of itself, after ``onnx.checker`` has gone through it.

    Raises:
        onnx.checker.ValidationError: The file breaks the rules of ONNX, or shapes do not fit.
    """
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    (opset,) = (one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    return {
        "opset": opset,
        "graph_inputs": {value.name: _describe_value(value) for value in model.graph.input},
        "graph_outputs": {value.name: _describe_value(value) for value in model.graph.output},
    }


def _describe_value(value: Any) -> dict[str, Any]:
    import onnx

    tensor = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return {
        "dtype": str(kind),
        "shape": [one.dim_param or (one.dim_value or None) for one in tensor.shape.dim],
    }


TARGET = Onnx()
