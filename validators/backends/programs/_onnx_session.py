"""Runs an ONNX file with ONNX Runtime on the CPU, CUDA or TensorRT provider."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from equipoise.convert.core.framework_types import OrtSession
from equipoise.validators.backends._graph_cache import InputSpec
from equipoise.validators.backends.base import (
    Array,
    BaseSession,
    CacheState,
    Facts,
    GraphNode,
    Kwargs,
    ModuleRecord,
    Options,
    Outputs,
    module_records,
    module_spans,
)

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Key in a node's metadata: the modules that it came from, outermost first, and its own name."""


class OnnxSession(BaseSession):
    """A session of an ``onnxruntime.InferenceSession``."""

    def __init__(self, file: str, options: Options, session: OrtSession = None) -> None:
        self.file = file
        self.options = options
        self.session = session or _open_session(file, options)
        self.inputs = {
            value.name: InputSpec(tuple(value.shape), NUMPY_DTYPES[value.type])
            for value in self.session.get_inputs()
        }
        self.accepts = frozenset(self.inputs)
        self.outputs = [value.name for value in self.session.get_outputs()]

    def about(self) -> Facts:
        """Describes the provider that is really used, threads and switches."""
        providers = self.session.get_providers()
        return {
            "device": "cpu" if providers[0] == PROVIDERS["cpu"] else "cuda",
            "provider": providers[0],
            "threads": self.options.get("threads") or os.cpu_count(),
            "tf32": bool(self.options.get("tf32")),
            "optimized": self.options.get("optimize", True),
            "deterministic": True,
            "precision": _precision(self.file),
            "implementation": "onnxruntime",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs of one forward pass by name."""
        return self.call(inputs)

    def call(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name; see :class:`equipoise.validators.backends._graph_cache.NamedGraph`."""
        outputs = self.session.run(self.outputs, self._cast_inputs(values))
        return dict(zip(self.outputs, outputs, strict=True))

    def capture(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState = None
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """Records the last value of every module; the nodes' metadata store which module they came from.

        These values become further outputs of the graph, which prevents some fusions.
        """
        import onnx

        model = onnx.load(self.file, load_external_data=False)
        spans = module_spans(
            [
                GraphNode(path, "", node.output[0], tuple(node.input))
                for node in model.graph.node
                if node.output and (path := _module_path(node))
            ]
        )
        existing = set(self.outputs)
        wanted = {one for span in spans for one in (span.value, span.input) if one} - existing
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
        session = _open_session(model.SerializeToString(), self.options, os.path.dirname(self.file))
        names = [value.name for value in session.get_outputs()]
        values = dict(zip(names, session.run(names, self._cast_inputs(inputs)), strict=True))
        return {name: values[name] for name in self.outputs}, module_records(spans, values)

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every initializer by name."""
        import onnx

        graph = onnx.load(self.file, load_external_data=False).graph
        return {value.name: list(value.dims) for value in graph.initializer}

    def _cast_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Casts inputs to the dtypes of the graph."""
        return {
            name: value.astype(self.inputs[name].dtype, copy=False)
            for name, value in inputs.items()
        }


NUMPY_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def _open_session(file: str | bytes, options: Options, folder: str = "") -> OrtSession:
    """Opens a session on the provider of the options.

    Raises:
        RuntimeError: The provider is not installed, or ONNX Runtime silently fell back to another one.
    """
    import onnxruntime

    device = str(options.get("device") or "cpu")
    kind, _, index = device.partition(":")
    provider = options.get("provider") or PROVIDERS[kind]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise RuntimeError(f"onnxruntime does not have {provider}, only {', '.join(available)}")
    provider_options: dict[str, str] = {}
    if provider != PROVIDERS["cpu"]:
        provider_options["device_id"] = index or "0"
    if provider == PROVIDERS["cuda"]:
        provider_options["use_tf32"] = "1" if options.get("tf32") else "0"
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    session_options.use_deterministic_compute = True
    if options.get("threads"):
        session_options.intra_op_num_threads = int(options["threads"])
        session_options.inter_op_num_threads = 1
    if not options.get("optimize", True):
        session_options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
    if folder:
        key = "session.model_external_initializers_file_folder_path"
        session_options.add_session_config_entry(key, folder)
    session = onnxruntime.InferenceSession(
        file, session_options, providers=[(provider, provider_options)]
    )
    if session.get_providers()[0] != provider:
        actual = session.get_providers()[0]
        raise RuntimeError(f"onnxruntime fell back from {provider} to {actual}")
    return session


def _module_path(node: Any) -> str:
    """Returns the module that a node came from; empty if the metadata do not store it."""
    for entry in node.metadata_props:
        if entry.key == SCOPES_KEY:
            *modules, _ = ast.literal_eval(entry.value)
            return (
                "" if any(name.startswith("_empty") for name in modules) else (modules or [""])[-1]
            )
    return ""


def _precision(file: str) -> str:
    """Returns the dtype of the largest part of the floating-point weights."""
    try:
        import onnx
    except ImportError:  # onnx is not needed to run a model
        return ""
    sizes: dict[str, int] = {}
    for value in onnx.load(file, load_external_data=False).graph.initializer:
        name = onnx.TensorProto.DataType.Name(value.data_type).lower()
        sizes[name] = sizes.get(name, 0) + int(np.prod(value.dims))
    names = {"float": "float32", "double": "float64"}
    floating = {name: size for name, size in sizes.items() if "float" in name or name == "double"}
    largest = max(floating, key=lambda name: floating[name], default="")
    return names.get(largest, largest)
