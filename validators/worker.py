"""Runs models in another Python environment; one file that needs nothing of Equipoise there.

It is started as ``/other/python worker.py`` and speaks frames over its standard input and output. A frame
is an 8-byte little-endian length, a JSON header of that length, then the raw bytes of the arrays that the
header lists under ``arrays`` (name, dtype, shape), C order, little-endian, one after the other.

A request's header has ``op`` and its arguments; the answer's has ``ok`` and the result, or ``error`` and
``trace``. One request is answered before the next is read. What libraries print goes to standard error.

    hello {}                                                   versions of Python and of the libraries
    load  {model, framework, class, folder, from_pt, dtype}    info: missing, unexpected, mismatched keys
    run   {model, kwargs} + arrays                             all float outputs, flattened, by name
    names {model}                                              name and shape of every weight
    save  {model, folder, options}                             the framework's own save_pretrained
    drop  {model}                                              forgets the model
    call  {file, function, arguments}                          a function of a Python file: what it returns
    stop  {}                                                   ends the process

``framework`` is ``pytorch``, ``tensorflow`` or ``flax``; ``class`` is the PyTorch name (``BertModel``) and
gets the prefix of the framework (``TFBertModel``).
"""

from __future__ import annotations

import json
import os
import struct
import sys
import traceback
from typing import Any, BinaryIO

import numpy as np

PREFIX = {"pytorch": "", "tensorflow": "TF", "flax": "Flax"}
LIBRARIES = ("transformers", "torch", "tensorflow", "tf_keras", "jax", "flax", "numpy")


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]] | None:
    """The next header and its arrays, or None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    header = json.loads(stream.read(struct.unpack("<Q", head)[0]))
    arrays = {}
    for name, dtype, shape in header.pop("arrays", []):
        kind = np.dtype(dtype)
        data = stream.read(int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
        arrays[name] = np.frombuffer(data, kind).reshape(shape)
    return header, arrays


def write_frame(
    stream: BinaryIO, header: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]
) -> None:
    """Writes a header and its arrays and flushes."""
    dense = {name: np.array(value, order="C") for name, value in arrays.items()}
    listed = [[name, value.dtype.str, list(value.shape)] for name, value in dense.items()]
    text = json.dumps({**header, "arrays": listed}).encode()
    stream.write(struct.pack("<Q", len(text)) + text)
    stream.writelines(value.tobytes() for value in dense.values())
    stream.flush()


def flatten(value: Any, path: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """Every float array in nested outputs, by dotted path; other leaves are passed over."""
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return {}
    if hasattr(value, "items"):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple)):
        pairs = list(enumerate(value))
    else:
        array = _to_numpy(value)
        return {path: array} if array is not None and array.dtype.kind == "f" else {}
    found: dict[str, np.ndarray[Any, Any]] = {}
    for key, item in pairs:
        found.update(flatten(item, f"{path}.{key}" if path else str(key)))
    return found


def _to_numpy(value: Any) -> np.ndarray[Any, Any] | None:
    if type(value).__module__.startswith("torch"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    elif not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    # bfloat16 and its like are no numpy kind "f"; their values are exact in float32.
    return array.astype(np.float32) if array.dtype.kind == "V" else array


class PyTorch:
    """PyTorch classes of transformers."""

    def load(self, cls: Any, folder: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The model and what its loader reports."""
        import torch

        torch.set_grad_enabled(False)
        extra = {"torch_dtype": getattr(torch, options["dtype"])} if options.get("dtype") else {}
        model, info = cls.from_pretrained(
            folder, output_loading_info=True, attn_implementation="eager", **extra
        )
        return model.eval(), info

    def run(self, model: Any, inputs: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        """The outputs, as the framework gives them."""
        import torch

        tensors = {name: torch.from_numpy(value.copy()) for name, value in inputs.items()}
        return model(**tensors, **kwargs, return_dict=True)

    def names(self, model: Any) -> dict[str, list[int]]:
        """Shape of every weight by name."""
        return {name: list(value.shape) for name, value in model.state_dict().items()}


class TensorFlow:
    """TF classes of transformers 4.57.6, the last that has them."""

    def load(self, cls: Any, folder: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The model and what its loader reports."""
        extra = {"from_pt": True} if options.get("from_pt") else {}
        model, info = cls.from_pretrained(folder, output_loading_info=True, **extra)
        # The HDF5 loader compares names of layers too; one without weights (dropout_37) cannot miss any.
        empty = {layer.name for layer in model.layers if not layer.weights}
        info["missing_keys"] = [name for name in info["missing_keys"] if name not in empty]
        return model, info

    def run(self, model: Any, inputs: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        """The outputs, as the framework gives them."""
        import tensorflow as tf

        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        return model(**tensors, **kwargs, return_dict=True, training=False)

    def names(self, model: Any) -> dict[str, list[int]]:
        """Shape of every weight by name."""
        return {weight.name: list(weight.shape) for weight in model.weights}


class Flax:
    """Flax classes of transformers 4.57.6, the last that has them."""

    def load(self, cls: Any, folder: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The model and what its loader reports."""
        from flax.traverse_util import flatten_dict

        self._mend_jax()
        if options.get("from_pt"):
            model = cls.from_pretrained(folder, from_pt=True)
            return model, {}
        # `_do_init=False` gives the parameters as they are in the file; nothing is filled in at random.
        model, params = cls.from_pretrained(folder, _do_init=False)
        model._is_initialized = True
        want = {"/".join(key) for key in flatten_dict(model.params_shape_tree)}
        have = self._keys_in_file(cls, folder)
        info = {
            "missing_keys": sorted(want - have),
            "unexpected_keys": sorted(have - want),
            "mismatched_keys": self._mismatched(params, model.params_shape_tree),
        }
        if not info["missing_keys"]:
            model.params = params
        return model, info

    @staticmethod
    def _keys_in_file(flax_class: Any, folder: str) -> set[str]:
        """What the file holds: the loader drops unexpected keys before anybody can see them."""
        from flax.traverse_util import flatten_dict

        index = os.path.join(folder, "flax_model.msgpack.index.json")
        if os.path.exists(index):
            with open(index) as file:
                return set(json.load(file)["weight_map"])
        for name in ("flax_model.msgpack", "model.safetensors"):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return {"/".join(key) for key in flatten_dict(flax_class.load_flax_weights(path))}
        return set()

    @staticmethod
    def _mismatched(params: Any, expected: Any) -> list[str]:
        from flax.traverse_util import flatten_dict

        wanted = flatten_dict(expected)
        return [
            "/".join(key)
            for key, value in flatten_dict(params).items()
            if key in wanted and tuple(value.shape) != tuple(wanted[key].shape)
        ]

    @staticmethod
    def _mend_jax() -> None:
        """T5 of 4.57.6 says ``jnp.clip(a_max=)``, which newer JAX refuses."""
        import jax.numpy as jnp

        clip = jnp.clip
        if clip.__module__ == __name__:
            return

        def mended(arr: Any, *args: Any, **kwargs: Any) -> Any:
            renamed = {{"a_min": "min", "a_max": "max"}.get(k, k): v for k, v in kwargs.items()}
            return clip(arr, *args, **renamed)

        jnp.clip = mended

    def run(self, model: Any, inputs: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        """The outputs, as the framework gives them."""
        tensors = {name: value.copy() for name, value in inputs.items()}
        return model(**tensors, **kwargs, return_dict=True, train=False)

    def names(self, model: Any) -> dict[str, list[int]]:
        """Shape of every weight by name."""
        from flax.traverse_util import flatten_dict

        return {"/".join(key): list(v.shape) for key, v in flatten_dict(model.params).items()}


FRAMEWORKS: dict[str, Any] = {"pytorch": PyTorch(), "tensorflow": TensorFlow(), "flax": Flax()}


class Worker:
    """Holds loaded models by name and answers one request at a time."""

    def __init__(self) -> None:
        self.models: dict[str, tuple[Any, Any]] = {}

    def hello(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Versions of Python and of the libraries."""
        from importlib.metadata import PackageNotFoundError, version

        versions = {"python": sys.version.split()[0]}
        for library in LIBRARIES:
            try:
                versions[library] = version(library)
            except PackageNotFoundError:
                continue
        return {"versions": versions}, {}

    def load(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Loads a model under a name."""
        import transformers

        framework = FRAMEWORKS[header["framework"]]
        cls = getattr(transformers, PREFIX[header["framework"]] + header["class"])
        model, info = framework.load(cls, header["folder"], header)
        self.models[header["model"]] = (framework, model)
        lists = {key: [str(item) for item in value] for key, value in info.items()}
        return {"info": lists}, {}

    def run(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Runs a model on arrays."""
        framework, model = self.models[header["model"]]
        return {}, flatten(framework.run(model, arrays, header.get("kwargs", {})))

    def names(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Lists the weights of a model."""
        framework, model = self.models[header["model"]]
        return {"names": framework.names(model)}, {}

    def save(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Writes a model as its framework does."""
        _, model = self.models[header["model"]]
        options = dict(header.get("options", {}))
        if options.pop("bf16", False):
            model.params = model.to_bf16(model.params)
        model.save_pretrained(header["folder"], **options)
        return {}, {}

    def drop(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Forgets a model."""
        _, model = self.models.pop(header["model"])
        if type(model).__name__.startswith("TF"):
            from tf_keras import backend

            backend.clear_session()
        return {}, {}

    def call(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        """Calls a function of a Python file with JSON arguments; gives back its JSON result."""
        import runpy

        functions = runpy.run_path(header["file"])
        return {"result": functions[header["function"]](**header["arguments"])}, {}

    def serve(self, source: BinaryIO, sink: BinaryIO) -> None:
        """Answers requests until ``stop`` or the end of the stream."""
        while (frame := read_frame(source)) is not None:
            header, arrays = frame
            if header["op"] == "stop":
                return
            answer, results = self._answer(header, arrays)
            write_frame(sink, answer, results)

    def _answer(self, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        operations = {
            op: getattr(self, op)
            for op in ("hello", "load", "run", "names", "save", "drop", "call")
        }
        try:
            answer, results = operations[header["op"]](header, arrays)
        except Exception as error:  # noqa: BLE001 - every failure of the process becomes an answer
            text = f"{type(error).__name__}: {error}"
            return {"ok": False, "error": text, "trace": traceback.format_exc()}, {}
        return {"ok": True, **answer}, results


def main() -> None:
    """Serves standard input; keeps standard output for frames alone."""
    for name, value in (
        ("TF_USE_LEGACY_KERAS", "1"),
        ("TF_CPP_MIN_LOG_LEVEL", "3"),
        ("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "")),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
    ):
        os.environ.setdefault(name, value)
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    Worker().serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
