"""ONNX: a graph that ONNX Runtime and many other runtimes execute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from equipoise.convert.core.framework_types import OnnxModel, OnnxValue, TorchModel
from equipoise.exporters.artifact_files import (
    ONNX_MERGED_DECODER,
    ONNX_MODEL,
    ONNX_SHARED_WEIGHTS,
    TRANSFORMERS_JS,
    with_suffix,
)
from equipoise.exporters.cache_names import PAST_PREFIX, WHOLE_MODEL
from equipoise.exporters.onnx.external_data import (
    remove_unused_inputs,
    save_model,
    share_external_data,
)
from equipoise.exporters.onnx.fx_cleanup import remove_noop_squeezes
from equipoise.exporters.onnx.merge_decoders import merge_decoders
from equipoise.exporters.onnx.optimizer_fix import use_exact_elimination_rules
from equipoise.exporters.onnx.runtime_passes import optimize, prevent_pad_fusion, quantize
from equipoise.exporters.shapes.branch_check import check_size_branches
from equipoise.exporters.shapes.input_specs import limit_notes
from equipoise.exporters.target import INT8_DYNAMIC, ExportableModel
from equipoise.exporters.torch_export import export_program, export_with_transformers

TOTAL_LENGTH = "past_sequence_length + sequence_length"
"""Name of the attention mask's length beside a past, as optimum writes it: it computes sizes of outputs from such names."""


class Onnx:
    """A graph whose inputs and outputs have the names that optimum uses."""

    name = "onnx"
    program = ONNX_MODEL
    extra = "onnx"
    needs = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    ways = {  # noqa: RUF012 - an attribute of the protocol
        "dynamo": "torch.export, then torch.onnx.export(dynamo=True)",
        "transformers": "OnnxExporter of transformers.exporters",
        "trace": "torch.onnx.export(dynamo=False), which traces with torch.jit",
    }
    quantizes = True

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports, names inputs and outputs, saves, and checks the file with shape inference."""
        opset = source.options.get("opset")
        export = {
            "dynamo": _export_dynamo,
            "transformers": _export_transformers,
            "trace": _export_trace,
        }[way]
        model, notes = export(source, opset, path)
        _name_inputs_and_outputs(model, source)
        remove_unused_inputs(model)
        notes += prevent_pad_fusion(model)
        storage: dict[str, Any] = {
            "external": bool(source.options.get("external")),
            "limit": source.options.get("max_shard_size"),
        }
        save_model(model, path, **storage)
        if source.options.get("optimize"):
            optimize(path, **storage)
        if source.options.get("quantize") == INT8_DYNAMIC:
            quantize(path, **storage)
        return {**check_and_describe(path), "notes": notes}

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """Writes a file for each graph, named as optimum names it; several graphs share their weights."""
        reports: dict[str, dict[str, Any]] = {}
        for role, source in sources.items():
            file = path if role == WHOLE_MODEL else path.with_name(f"{role}_model.onnx")
            reports[role] = {**self.make(way, source, file), "file": file.name}
        if len(reports) == 1:
            return reports
        files = [path.with_name(one["file"]) for one in reports.values()]
        options = sources["encoder"].options
        weights = path.with_name(ONNX_SHARED_WEIGHTS)
        share_external_data(files, weights, options.get("max_shard_size"))
        for file in files:
            check_and_describe(file)
        is_web = options.get("layout") == TRANSFORMERS_JS
        if options.get("merged") or is_web:
            reports = _merge_decoder_files(reports, path, sources["encoder"].model)
        return _part_files(reports, path, options) if is_web else reports


def _part_files(
    reports: Mapping[str, dict[str, Any]], path: Path, options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Gives each graph its own weights, and its file the suffix of the whole model's: transformers.js shares no weights."""
    import onnx_ir

    suffix = path.stem.removeprefix(Path(ONNX_MODEL).stem)
    storage: dict[str, Any] = {
        "external": bool(options.get("external")),
        "limit": options.get("max_shard_size"),
    }
    with TemporaryDirectory(dir=path.parent) as folder:
        for report in reports.values():
            model = onnx_ir.load(str(path.with_name(report["file"])))
            save_model(model, Path(folder) / with_suffix(report["file"], suffix), **storage)
        for former in (path.with_name(report["file"]) for report in reports.values()):
            former.unlink()
        for weights in path.parent.glob(f"{ONNX_SHARED_WEIGHTS}*"):
            weights.unlink()
        for file in Path(folder).iterdir():
            file.rename(path.with_name(file.name))
    return {
        role: {**report, "file": with_suffix(report["file"], suffix)}
        for role, report in reports.items()
    }


def _merge_decoder_files(
    reports: Mapping[str, dict[str, Any]], path: Path, model: TorchModel
) -> dict[str, dict[str, Any]]:
    """Merges both decoders into one file."""
    file = path.with_name(ONNX_MERGED_DECODER)
    first, with_past = (
        path.with_name(reports[role]["file"]) for role in ("decoder", "decoder_with_past")
    )
    merge_decoders(first, with_past, file)
    described = check_and_describe(file)
    notes = _note_on_optimum(described["graph_inputs"], model.config)
    merged = {**described, "file": file.name, "notes": notes}
    return {"encoder": reports["encoder"], "decoder_merged": merged}


def _note_on_optimum(inputs: Mapping[str, dict[str, Any]], config: Any) -> list[str]:
    """Notes that optimum cannot size the empty past of a merged decoder, where it is not what the encoder's config says."""
    _, heads, _, width = inputs[f"{PAST_PREFIX}0.decoder.key"]["shape"]
    wanted = getattr(config, "num_attention_heads", None) or heads
    computed = (wanted, getattr(config, "hidden_size", wanted * width) // wanted)
    if computed == (heads, width):
        return []
    past = f"{heads} heads of {width} numbers"
    other = f"{computed[0]} of {computed[1]}"
    return [
        f"optimum-onnx runs two decoders only: the past has {past}, and it computes {other} for a merged one"
    ]


def _export_dynamo(
    source: ExportableModel, opset: int | None, path: Path
) -> tuple[OnnxModel, list[str]]:
    """Exports through ``torch.export``.

    PyTorch's guards are dropped: ONNX has none, and torch 2.13 fails to run them on a length that is the sum of two
    others.
    """
    import torch

    checked = check_size_branches(source, export_program)
    checked.program._guards_code = []
    remove_noop_squeezes(checked.program)
    use_exact_elimination_rules()
    program = torch.onnx.export(
        checked.program,
        dynamo=True,
        verbose=False,
        opset_version=opset,
        output_names=list(source.outputs),
        optimize=True,
    )
    notes = limit_notes(checked.limits, checked.program, tuple(source.tensors), source.axes)
    return program.model, notes


def _export_transformers(
    source: ExportableModel, opset: int | None, path: Path
) -> tuple[OnnxModel, list[str]]:
    use_exact_elimination_rules()
    return export_with_transformers(source, "onnx", opset_version=opset), []


def _export_trace(
    source: ExportableModel, opset: int | None, path: Path
) -> tuple[OnnxModel, list[str]]:
    """Exports with the tracer; it writes a file for every weight beyond 2 GiB, hence the folder."""
    import onnx_ir
    import torch

    names = list(source.tensors)
    axes = {name: dict(source.axes[name]) for name in names}
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
        # The tracer records the sizes of the example.
        value.shape = onnx_ir.Shape([None] * len(value.shape or ()))
    return model, []


def _name_inputs_and_outputs(model: OnnxModel, source: ExportableModel) -> None:
    """Gives inputs and outputs the names of the model, and their dynamic axes the names of the axes."""
    import onnx_ir

    known = dict(zip((value.name for value in model.graph.inputs), source.tensors, strict=False))
    symbols: dict[str, str] = {}
    names = {"total_sequence_length": TOTAL_LENGTH}
    for value in model.graph.inputs:
        name = known[value.name] if value.name not in source.axes else value.name
        value.name = name
        for axis, symbol in source.axes[name].items():
            if value.shape is not None and not isinstance(value.shape[axis], int):
                symbols[_symbol_text(value.shape[axis])] = names.get(symbol, symbol)
    for value, name in zip(model.graph.outputs, source.outputs, strict=False):
        value.name = name
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            sizes = [symbols.get(_symbol_text(size), size) for size in value.shape]
            value.shape = onnx_ir.Shape(sizes)
    _drop_inner_shapes(model)


def _symbol_text(size: Any) -> str:
    return str(getattr(size, "value", size))


def _drop_inner_shapes(model: OnnxModel) -> None:
    """Removes the recorded shapes of inner values, which use other symbols; shape inference restores them."""
    kept = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    kept |= {id(value) for value in model.graph.initializers.values()}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if id(value) not in kept:
                value.shape = None


def check_and_describe(path: Path) -> dict[str, Any]:
    """Checks a written file with ``onnx.checker``; returns its opset, inputs and outputs.

    Raises:
        onnx.checker.ValidationError: The file is not valid ONNX, or shapes do not match.
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


def _describe_value(value: OnnxValue) -> dict[str, Any]:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return {
        "dtype": str(dtype),
        "shape": [one.dim_param or (one.dim_value or None) for one in tensor.shape.dim],
    }


TARGET = Onnx()
