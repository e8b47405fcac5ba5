"""Reads and writes the weights of programs and checkpoints of every backend, under names with dots."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert import convert
from equipoise.exporters.artifact_files import JAX_WEIGHTS
from equipoise.validators.audit.readers import read_program
from faults.planting.onnx_graph import Array, NoSiteError, OnnxProgram, module_of

Arrays = dict[str, Array]
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "gamma": "weight",
    "beta": "bias",
}
"""Last part of a name in JAX and TensorFlow -> that of PyTorch."""


def read_weights(artifact: Path, backend: str) -> Arrays:
    """Returns the float32 weights of an artifact."""
    arrays = READERS[backend](artifact)
    return {name: one for name, one in arrays.items() if one.dtype == np.float32}


def write_weights(artifact: Path, backend: str, changed: Mapping[str, Array]) -> None:
    """Writes changed weights into an artifact."""
    WRITERS[backend](artifact, changed)


def _read_onnx(artifact: Path) -> Arrays:
    """Returns the weights of the first program that has any; a transposed weight has the name of its module."""
    return {name: value for name, (_, value) in _onnx_names(_onnx_program(artifact)).items()}


def _onnx_program(artifact: Path) -> OnnxProgram:
    files = sorted(artifact.glob("*.onnx"), key=lambda one: ("past" in one.name, one.name))
    return OnnxProgram(files[0])


def _onnx_names(program: OnnxProgram) -> dict[str, tuple[str, Array]]:
    found: dict[str, tuple[str, Array]] = {}
    for node in program.nodes:
        for initializer in node.input:
            value = program.constant(initializer)
            if value is None or value.dtype != np.float32 or value.ndim == 0 or value.size == 1:
                continue
            if initializer.startswith("model."):
                found.setdefault(initializer.removeprefix("model."), (initializer, value))
            elif module_of(node) and node.op_type == "MatMul" and value.ndim == 2:
                found.setdefault(f"{module_of(node)}.weight", (initializer, value))
    return found


def _write_onnx(artifact: Path, changed: Mapping[str, Array]) -> None:
    program = _onnx_program(artifact)
    names = _onnx_names(program)
    for name, value in changed.items():
        program.set_constant(names[name][0], value)
    program.save()


def _read_pytorch(artifact: Path) -> Arrays:
    from safetensors.numpy import load_file

    return dict(load_file(artifact / "model.safetensors"))


def _write_pytorch(artifact: Path, changed: Mapping[str, Array]) -> None:
    from safetensors.numpy import save_file

    file = artifact / "model.safetensors"
    arrays = {**_read_pytorch(artifact), **changed}
    save_file(
        {name: np.ascontiguousarray(one) for name, one in arrays.items()}, file, {"format": "pt"}
    )


def convert_in_place(artifact: Path, backend: str) -> None:
    """Converts a PyTorch checkpoint to the layout of another backend of classes."""
    source = artifact.with_name("pytorch")
    shutil.rmtree(source, ignore_errors=True)
    artifact.rename(source)
    try:
        convert(source, artifact, to=backend)
    finally:
        shutil.rmtree(source)


def _writer_of(backend: str) -> Callable[[Path, Mapping[str, Array]], None]:
    def write(artifact: Path, changed: Mapping[str, Array]) -> None:
        _write_pytorch(artifact, changed)
        convert_in_place(artifact, backend)

    return write


def _read_torchscript(artifact: Path) -> Arrays:
    import torch

    module = torch.jit.load(artifact / "model.pt")
    return {
        name.removeprefix("model."): one.detach().numpy() for name, one in module.named_parameters()
    }


def _write_torchscript(artifact: Path, changed: Mapping[str, Array]) -> None:
    import torch

    module = torch.jit.load(artifact / "model.pt")
    for name, one in module.named_parameters():
        if (value := changed.get(name.removeprefix("model."))) is not None:
            one.data.copy_(torch.from_numpy(value))
    torch.jit.save(module, artifact / "model.pt")


def _read_torch_export(artifact: Path) -> Arrays:
    import torch

    program = torch.export.load(artifact / "model.pt2")
    return {
        name.removeprefix("model."): one.detach().numpy()
        for name, one in program.state_dict.items()
    }


def _write_torch_export(artifact: Path, changed: Mapping[str, Array]) -> None:
    import torch

    program = torch.export.load(artifact / "model.pt2")
    for name, one in program.state_dict.items():
        if (value := changed.get(name.removeprefix("model."))) is not None:
            one.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    torch.export.save(program, artifact / "model.pt2")


def _read_stablehlo(artifact: Path) -> Arrays:
    return {name: np.array(leaf) for _, _, name, leaf in _jax_leaves(_jax_tree(artifact))}


def _jax_tree(artifact: Path) -> Any:
    from flax.serialization import msgpack_restore

    return msgpack_restore((artifact / JAX_WEIGHTS).read_bytes())


def _jax_leaves(tree: Any, path: str = "") -> Iterator[tuple[Any, str, str, Array]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _jax_leaves(value, f"{path}{key}.")
        else:
            yield tree, key, f"{path}{LEAVES.get(key, key)}", value


def _write_stablehlo(artifact: Path, changed: Mapping[str, Array]) -> None:
    from flax.serialization import msgpack_serialize

    tree = _jax_tree(artifact)
    for parent, key, name, _ in list(_jax_leaves(tree)):
        if name in changed:
            parent[key] = changed[name]
    (artifact / JAX_WEIGHTS).write_bytes(msgpack_serialize(tree))


def _variables(artifact: Path) -> tuple[str, dict[str, str]]:
    import tensorflow as tf

    prefix = str(next(artifact.rglob("variables.index"))).removesuffix(".index")
    names = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    return prefix, {name: _plain_name(name) for name in names}


def _plain_name(name: str) -> str:
    """Returns ``bert.encoder.layer.0.output.dense.weight`` for a key of an object-based checkpoint."""
    dotted = name.removeprefix("weights/").partition("/.ATTRIBUTES")[0]
    dotted = dotted.replace("_.._", ".").replace(".S", ".")
    module, _, leaf = dotted.rpartition(".")
    return f"{module}.{LEAVES.get(leaf, leaf)}"


def _read_saved_model(artifact: Path) -> Arrays:
    import tensorflow as tf

    prefix, names = _variables(artifact)
    reader = tf.train.load_checkpoint(prefix)
    found = {plain: reader.get_tensor(name) for name, plain in names.items()}
    return {name: one for name, one in found.items() if isinstance(one, np.ndarray)}


def _write_saved_model(artifact: Path, changed: Mapping[str, Array]) -> None:
    import tensorflow as tf

    prefix, names = _variables(artifact)
    reader = tf.train.load_checkpoint(prefix)
    tensors = [changed.get(plain, reader.get_tensor(name)) for name, plain in names.items()]
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(names),
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(one) for one in tensors],
    )


def _read_tflite(artifact: Path) -> Arrays:
    found = {}
    for one in read_program("tflite", artifact / "model.tflite").weights:
        value = one.ref.read()
        if value.dtype == np.float32 and value.size > 1:
            found[one.ref.name] = np.array(value)
    return found


def _write_tflite(artifact: Path, changed: Mapping[str, Array]) -> None:
    """Writes over the bytes of each changed weight, which must occur once."""
    file = artifact / "model.tflite"
    old, data = _read_tflite(artifact), file.read_bytes()
    for name, value in changed.items():
        before = old[name].tobytes()
        if data.count(before) != 1:
            raise NoSiteError
        data = data.replace(before, np.ascontiguousarray(value).tobytes())
    file.write_bytes(data)


READERS: Mapping[str, Callable[[Path], Arrays]] = {
    "onnx": _read_onnx,
    "pytorch": _read_pytorch,
    "tensorflow": _read_pytorch,
    "flax": _read_pytorch,
    "torchscript": _read_torchscript,
    "torch-export": _read_torch_export,
    "stablehlo": _read_stablehlo,
    "saved-model": _read_saved_model,
    "tflite": _read_tflite,
}
WRITERS: Mapping[str, Callable[[Path, Mapping[str, Array]], None]] = {
    "onnx": _write_onnx,
    "pytorch": _write_pytorch,
    "tensorflow": _writer_of("tensorflow"),
    "flax": _writer_of("flax"),
    "torchscript": _write_torchscript,
    "torch-export": _write_torch_export,
    "stablehlo": _write_stablehlo,
    "saved-model": _write_saved_model,
    "tflite": _write_tflite,
}
