"""Builds the program of one model with one strategy of a target. Runs in a worker process, where the framework is.

A crash, a hang or running out of memory in an exporter ends that process and not the command.
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.framework_types import TorchModel, TorchTensor
from equipoise.exporters.cache_graphs import cache_graphs
from equipoise.exporters.load_model import load_pytorch_model
from equipoise.exporters.patches.experts import use_batched_experts
from equipoise.exporters.patches.recurrences import patch_recurrences
from equipoise.exporters.patches.vilt import patch_vilt
from equipoise.exporters.target import ExportableModel, SupportsKvCache, find_target
from equipoise.exporters.wrap_model import (
    describe_outputs,
    forward_parameters,
    with_named_io,
)


@dataclass(frozen=True)
class BuildRequest:
    """One program to build; plain data, since it travels to the worker as JSON.

    Attributes:
        target: Name of the target.
        way: One of its strategies.
        folder: The model in PyTorch's layout.
        class_name: PyTorch's class.
        inputs: An ``.npz`` file with example inputs.
        output: The file to write.
        axes: The dynamic axes of each input and their names; axes are text, as JSON keys are.
        cached: Whether to export graphs with a KV cache instead of one forward pass.
        kwargs: Further keyword arguments of the model's forward.
        outputs: Names of the outputs to keep; None keeps all tensors.
        dtype: Dtype of the weights.
        device: Device of the model during the export.
        patch: A file with ``patch(model)``, called before the export; plants faults in tests.
        options: Options of the target.
    """

    target: str
    way: str
    folder: str
    class_name: str
    inputs: str
    output: str
    axes: Mapping[str, Mapping[str, str]]
    cached: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    dtype: str = "float32"
    device: str = "cpu"
    patch: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The axes with integers as keys."""
        return {
            name: {int(axis): symbol for axis, symbol in axes.items()}
            for name, axes in self.axes.items()
        }


def build(**fields: Any) -> dict[str, Any]:
    """Writes the program of a :class:`BuildRequest` given by its fields.

    Returns:
        ``inputs`` (names in their order), ``outputs`` (dtype and shape by name), ``seconds``, ``notes`` for artifact.json, and what else the
        target reports: ``opset``, ``graphs``, ``graph_inputs``, ``graph_outputs``.
    """
    request = BuildRequest(**fields)
    start = time.perf_counter()
    model, patch_notes = load_for_export(request)
    tensors = load_tensors(request.inputs, model)
    write = _write_cache_graphs if request.cached else _write_program
    report = write(request, model, tensors)
    notes = [*report.pop("notes", []), *patch_notes]
    return {**report, "seconds": time.perf_counter() - start, "notes": notes}


def _write_program(
    request: BuildRequest, model: TorchModel, tensors: dict[str, TorchTensor]
) -> dict[str, Any]:
    """Writes one forward pass as a program."""
    exportable = exportable_model(request, model, tensors)
    report = find_target(request.target).make(request.way, exportable, Path(request.output))
    if "graph_outputs" not in report:
        report = {**report, "outputs": describe_outputs(exportable)}
    return {"inputs": list(tensors), **report}


def _write_cache_graphs(
    request: BuildRequest, model: TorchModel, tensors: dict[str, TorchTensor]
) -> dict[str, Any]:
    """Writes the graphs of a model with a KV cache."""
    target = find_target(request.target)
    if not isinstance(target, SupportsKvCache):
        raise TypeError(f"the target {request.target} exports no KV cache")
    graphs = cache_graphs(
        model, tensors, dict(request.kwargs), request.dynamic_axes, dict(request.options)
    )
    return _merge_reports(target.make_graphs(request.way, graphs, Path(request.output)))


def _merge_reports(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Merges what a target reports of each graph; a single graph is described like a plain program."""
    notes = list(dict.fromkeys(note for one in reports.values() for note in one.get("notes", [])))
    (opset,) = {one.get("opset") for one in reports.values()}
    merged: dict[str, Any] = {"opset": opset, "outputs": {}, "notes": notes}
    if single := reports.get("model"):
        return {**merged, **{key: single[key] for key in ("graph_inputs", "graph_outputs")}}
    merged["graphs"] = {
        role: {
            "file": one["file"],
            **({"signature": one["signature"]} if "signature" in one else {}),
            "inputs": one["graph_inputs"],
            "outputs": one["graph_outputs"],
        }
        for role, one in reports.items()
    }
    return merged


def load_for_export(request: BuildRequest) -> tuple[TorchModel, list[str]]:
    """Loads a model and applies the export patches; returns it with notes for artifact.json.

    Its weights need no gradients, so that the outputs of a program have none either.
    """
    import torch

    torch.set_grad_enabled(False)
    model = load_pytorch_model(request.folder, request.class_name, request.dtype)
    model = model.to(request.device).eval().requires_grad_(False)
    notes = apply_patches(model)
    if request.patch:
        runpy.run_path(request.patch)["patch"](model)
    return model, notes


def apply_patches(model: TorchModel) -> list[str]:
    """Applies all export patches in place; returns notes for artifact.json."""
    return [*use_batched_experts(model), *patch_recurrences(model), *patch_vilt(model)]


def load_tensors(inputs: str, model: TorchModel) -> dict[str, TorchTensor]:
    """Loads example inputs as tensors, floating-point ones in the precision of the model.

    Their order is that of the arguments of the model's ``forward``, whatever order a tokenizer gives them in: a program
    that is called with tensors in that order means what the model means.
    """
    import torch

    order = {name: index for index, name in enumerate(forward_parameters(model))}
    tensors = {}
    with np.load(inputs) as stored:
        for name in sorted(stored.files, key=lambda name: order.get(name, len(order))):
            tensor = torch.from_numpy(stored[name].copy()).to(model.device)
            tensors[name] = tensor.to(model.dtype) if tensor.is_floating_point() else tensor
    return tensors


def exportable_model(
    request: BuildRequest, model: TorchModel, tensors: dict[str, TorchTensor]
) -> ExportableModel:
    """Wraps a model so that its inputs and outputs have names, without a cache."""
    kwargs = dict(request.kwargs)
    if "use_cache" in forward_parameters(model):
        kwargs = {"use_cache": False, **kwargs}
    module = with_named_io(model, list(tensors), kwargs, request.outputs)
    axes = request.dynamic_axes
    return ExportableModel(
        module=module,
        model=model,
        tensors=tensors,
        axes={name: axes[name] for name in tensors},
        outputs=tuple(module(*tensors.values())),
        kwargs=kwargs,
        options=dict(request.options),
    )
