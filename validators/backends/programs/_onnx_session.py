"""Runs an ONNX file with ONNX Runtime on the CPU, CUDA or TensorRT provider."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from equipoise.convert.core.framework_types import OrtSession
from equipoise.validators.backends._graph_cache import InputSpec
from equipoise.validators.backends.base import (
    Array,
    BaseSession,
    Facts,
    Kwargs,
    ModuleRecord,
    Options,
    Outputs,
)
from equipoise.validators.backends.programs._onnx_modules import ModuleRecorder

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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
        self.recorder: ModuleRecorder | None = None

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
        inputs = self._cast_inputs(values)
        if self.recorder is not None:
            return self.recorder(inputs)
        outputs = self.session.run(self.outputs, inputs)
        return dict(zip(self.outputs, outputs, strict=True))

    @contextmanager
    def record_modules(self) -> Iterator[list[ModuleRecord]]:
        """Records the modules of all graphs that run; see :class:`ModuleRecorder`."""
        records: list[ModuleRecord] = []
        graphs = self.graphs
        for graph in graphs:
            graph.recorder = ModuleRecorder(graph.file, graph.outputs, graph.open_variant, records)
        try:
            yield records
        finally:
            for graph in graphs:
                graph.recorder = None

    @property
    def graphs(self) -> tuple[OnnxSession, ...]:
        """The sessions of all graphs of the program."""
        return (self,)

    def open_variant(self, model: bytes, folder: str) -> OrtSession:
        """Opens a changed graph with the same options; its external data are in a folder."""
        return _open_session(model, self.options, folder)

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
