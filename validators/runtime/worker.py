"""Runs models in a separate process, in this or another Python environment.

The process is started as ``/other/python worker.py`` and exchanges frames over its standard input and output.
Equipoise need not be installed in that environment: the backends are imported from the folders next to this file.

A frame is an 8-byte little-endian length, a JSON header of that length, then the raw bytes of the arrays that
the header lists under ``arrays`` (name, dtype, shape), in C order, little-endian, one after the other.

The header of a request has ``op`` and its arguments; that of the answer has ``ok`` and the result, or ``error`` and
``trace``. A request is answered before the next one is read. What libraries print goes to standard error.

    hello   {}                                          versions of Python and the libraries, number of cores
    load    {model, backend, folder, class, options}    info: missing, unexpected, mismatched keys; about
    run     {model, kwargs} + arrays                    all floating-point outputs, flattened, by name
    step    {model, kwargs, state, order} + arrays      the same, and the name of the new KV cache
    capture {model, kwargs, state, order,               the outputs, and inputs and outputs of every module
             cached} + arrays
    names   {model}                                     name and shape of every weight
    renamed {model}                                     names in the file of weights that the model renames
    drop    {model}                                     unloads the model
    call    {module, function, arguments}               result of a function; module: dotted name or path of a .py file
    stop    {}                                          ends the process

``backend`` is a module of ``backends/``; ``class`` is the name of the PyTorch class (``BertModel``).
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
import time
import traceback
import types
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Header = dict[str, Any]
"""A JSON object: a request or the answer to one."""
Answer = tuple[Header, Arrays]
Session = Any
"""A loaded model: :class:`equipoise.validators.backends.base.Session`."""

REPORTED_LIBRARIES = (
    *("transformers", "torch", "tensorflow", "tf_keras", "jax", "flax", "numpy"),
    *("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "safetensors", "tokenizers"),
)

MAX_HEADER_BYTES = 1 << 30
"""A longer header is not a frame but the output of another program."""


class FrameError(ValueError):
    """The other process does not use this protocol."""


def read_frame(stream: BinaryIO) -> tuple[Header, Arrays] | None:
    """Reads the next header and its arrays; returns None at the end of the stream.

    Raises:
        FrameError: The bytes are not a frame.
    """
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    if length > MAX_HEADER_BYTES:
        raise FrameError(f"not a frame: it begins with {head!r}")
    try:
        header = json.loads(stream.read(length))
        arrays = {name: _read_array(stream, *what) for name, *what in header.pop("arrays", [])}
    except (ValueError, TypeError, AttributeError) as error:
        raise FrameError(f"not a frame: {error}") from error
    return header, arrays


def _read_array(stream: BinaryIO, dtype: str, shape: list[int]) -> Array:
    array_dtype = np.dtype(dtype)
    data = stream.read(int(np.prod(shape, dtype=np.int64)) * array_dtype.itemsize)
    return np.frombuffer(data, array_dtype).reshape(shape)


def write_frame(stream: BinaryIO, header: Header, arrays: Arrays) -> None:
    """Writes a header and its arrays and flushes the stream."""
    dense = {
        name: value if value.flags.c_contiguous else np.array(value, order="C")
        for name, value in arrays.items()
    }
    listed = [[name, value.dtype.str, list(value.shape)] for name, value in dense.items()]
    text = json.dumps({**header, "arrays": listed}).encode()
    stream.write(struct.pack("<Q", len(text)) + text)
    stream.writelines(value.reshape(-1).view(np.uint8).data for value in dense.values())
    stream.flush()


def flatten(value: Any, path: str = "") -> Arrays:
    """Returns every floating-point array in nested outputs by its dotted path; skips other values."""
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return {}
    if hasattr(value, "items"):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple)):
        pairs = list(enumerate(value))
    else:
        array = to_numpy(value)
        return {path: array} if array is not None and array.dtype.kind == "f" else {}
    arrays: Arrays = {}
    for key, item in pairs:
        arrays.update(flatten(item, f"{path}.{key}" if path else str(key)))
    return arrays


def to_numpy(value: Any) -> Array | None:
    """Converts a framework's tensor to an array, or returns None if it is none; bfloat16 becomes float32, which is exact."""
    if type(value).__module__.startswith("torch"):
        if not hasattr(value, "detach"):
            return None
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    elif not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    # bfloat16 and similar dtypes have kind "V" in NumPy; float32 represents them exactly.
    return array.astype(np.float32) if array.dtype.kind == "V" else array


SESSIONS: dict[str, Session] = {}
"""Loaded models by name; functions that are called in this process may use them."""


class Worker:
    """Stores loaded models by name and answers requests."""

    OPERATIONS = (
        *("hello", "load", "run", "step", "capture"),
        *("preload", "names", "renamed", "drop", "call"),
    )

    def __init__(self) -> None:
        self.sessions = SESSIONS
        self.states: Header = {}

    def hello(self, header: Header, arrays: Arrays) -> Answer:
        """Returns the versions of Python and the libraries, and the number of cores."""
        from importlib.metadata import PackageNotFoundError, version

        versions = {"python": sys.version.split()[0]}
        for library in REPORTED_LIBRARIES:
            try:
                versions[library] = version(library)
            except PackageNotFoundError:
                continue
        return {"versions": versions, "cores": len(os.sched_getaffinity(0))}, {}

    def preload(self, header: Header, arrays: Arrays) -> Answer:
        """Imports packages, and a class of transformers, ahead of their use; what cannot be imported fails when it is used."""
        for package in header["packages"]:
            with suppress(Exception):
                found = import_module(package)
                if package == "transformers" and header.get("class"):
                    getattr(found, header["class"], None)
        return {}, {}

    def load(self, header: Header, arrays: Arrays) -> Answer:
        """Loads a model and stores it under a name."""
        session = _import_backend(header["backend"]).load(
            header["folder"], header.get("class") or "", header.get("options") or {}
        )
        self.sessions[header["model"]] = session
        lists = {key: [str(item) for item in value] for key, value in session.info.items()}
        about = {**session.about(), "accepts": sorted(session.accepts), "caches": session.caches}
        return {"info": lists, "about": about}, {}

    def run(self, header: Header, arrays: Arrays) -> Answer:
        """Runs a model on arrays."""
        session = self.sessions[header["model"]]
        start = time.perf_counter()
        outputs = session.run(arrays, header.get("kwargs", {}))
        return self._measure(session, start), flatten(outputs)

    def step(self, header: Header, arrays: Arrays) -> Answer:
        """Runs a model with the KV cache of an earlier step and stores the new one."""
        session = self.sessions[header["model"]]
        state = self.states.pop(header["state"]) if header.get("state") else None
        start = time.perf_counter()
        outputs, state = session.step(arrays, header.get("kwargs", {}), state, header.get("order"))
        measured = self._measure(session, start)
        name = f"state-{header['model']}"
        self.states[name] = state
        return {"state": name, **measured}, flatten(outputs)

    def capture(self, header: Header, arrays: Arrays) -> Answer:
        """Runs a model and returns inputs and outputs of its modules, in the order in which they end."""
        session = self.sessions[header["model"]]
        state = self.states.pop(header["state"]) if header.get("state") else None
        # Only what differs from the defaults: a user's backend may not know all of it.
        options = {name: header[name] for name in ("order", "cached") if header.get(name)}
        outputs, modules = session.capture(arrays, header.get("kwargs", {}), state, **options)
        arrays_by_name = {f"results|{name}": value for name, value in flatten(outputs).items()}
        listed = []
        for index, module in enumerate(modules):
            for side in ("inputs", "outputs"):
                values = module.pop(side)
                arrays_by_name.update(
                    {f"{side}/{index}|{name}": value for name, value in values.items()}
                )
            listed.append(module)
        return {"modules": listed}, arrays_by_name

    def names(self, header: Header, arrays: Arrays) -> Answer:
        """Returns name and shape of a model's weights."""
        return {"names": self.sessions[header["model"]].names()}, {}

    def renamed(self, header: Header, arrays: Arrays) -> Answer:
        """Returns the weights whose names in the model and its file differ; reads the file."""
        return {"renamed": self.sessions[header["model"]].renamed()}, {}

    def drop(self, header: Header, arrays: Arrays) -> Answer:
        """Unloads a model."""
        self.states.pop(f"state-{header['model']}", None)
        self.sessions.pop(header["model"]).close()
        self._collect()
        return {}, {}

    def call(self, header: Header, arrays: Arrays) -> Answer:
        """Calls a function of a module with JSON arguments; returns its JSON result."""
        function = getattr(_import_module(header["module"]), header["function"])
        result = function(**header["arguments"])
        self._collect()
        return {"result": result}, {}

    def _collect(self) -> None:
        """Runs the garbage collector: models contain reference cycles.

        If no model is loaded, the objects that remain belong to the libraries and are frozen. Otherwise each later
        collection would take half a second with PyTorch and TensorFlow.
        """
        gc.collect()
        if not self.sessions:
            gc.freeze()

    @staticmethod
    def _measure(session: Session, start: float) -> dict[str, float]:
        """Returns the seconds of a pass and the peak memory of the process (or its device) so far."""
        session.synchronize()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak_bytes": session.peak_bytes()}

    def serve(self, source: BinaryIO, sink: BinaryIO) -> None:
        """Answers requests until ``stop`` or the end of the stream."""
        while (frame := read_frame(source)) is not None:
            header, arrays = frame
            if header["op"] == "stop":
                return
            answer, results = self._answer(header, arrays)
            write_frame(sink, answer, results)

    def _answer(self, header: Header, arrays: Arrays) -> Answer:
        operations = {op: getattr(self, op) for op in self.OPERATIONS}
        try:
            answer, results = operations[header["op"]](header, arrays)
        except Exception as error:  # noqa: BLE001 - every failure of the process becomes an answer
            text = f"{type(error).__name__}: {error}"
            kind = "MemoryError" if _is_out_of_memory(error) else type(error).__name__
            return {"ok": False, "error": text, "kind": kind, "trace": traceback.format_exc()}, {}
        return {"ok": True, **answer}, results


_OUT_OF_MEMORY = ("failed to map segment from shared object", "Cannot allocate memory")
"""What the system's loader and the C library say where Python raises no MemoryError."""


def _is_out_of_memory(error: Exception) -> bool:
    """Checks whether an error says that memory ran out, also while a library was loaded."""
    return isinstance(error, MemoryError) or (
        isinstance(error, ImportError | OSError)
        and any(reason in str(error) for reason in _OUT_OF_MEMORY)
    )


def _import_backend(name: str) -> Any:
    """Imports a backend by its name, or by the path of a user's file."""
    from equipoise.convert.core.plugins import PluginFolder, load_file

    if name.endswith(".py"):
        return load_file(name)
    folder = PluginFolder("equipoise.validators.backends", subfolders=("classes", "programs"))
    try:
        return folder.module(name)
    except KeyError as error:
        raise LookupError(f"there is no backend {name!r}") from error


def _import_module(name: str) -> Any:
    """Imports a module by its dotted name, or by the path of a user's file."""
    from equipoise.convert.core.plugins import load_file

    return load_file(name) if name.endswith(".py") else import_module(name)


def stand_in_for_package(folder: str) -> None:
    """Makes ``equipoise.validators``, ``exporters`` and ``convert`` importable from the folders around this file only.

    In the other environment Equipoise is not installed, and in this one the parent folder need not be importable; the
    backends import each other and this file by their full names.
    """
    this_module = sys.modules[__name__]
    root = os.path.dirname(folder)
    packages: dict[str, list[str]] = {
        "equipoise": [],
        "equipoise.validators": [folder],
        "equipoise.exporters": [os.path.join(root, "exporters")],
        "equipoise.convert": [os.path.join(root, "convert")],
    }
    for name, paths in packages.items():
        module = types.ModuleType(name)
        module.__path__ = paths
        sys.modules[name] = module
    sys.modules["equipoise.validators.runtime.worker"] = this_module


def limit_memory(nbytes: int) -> None:
    """Limits the address space of the process; allocations beyond raise MemoryError."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (nbytes, nbytes))


def main() -> None:
    """Serves standard input; both standard streams are reserved for frames, and code that reads input finds none."""
    for name, value in (
        ("TF_USE_LEGACY_KERAS", "1"),
        ("TF_CPP_MIN_LOG_LEVEL", "3"),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    if len(sys.argv) > 1:
        limit_memory(int(sys.argv[1]))
    # Tracing creates millions of long-lived objects: with the default thresholds a quarter of its time is garbage collection.
    gc.set_threshold(20_000, 20, 50)
    stand_in_for_package(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    Worker().serve(source, sink)


if __name__ == "__main__":
    main()
