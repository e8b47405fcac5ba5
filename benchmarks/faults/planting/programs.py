"""Plants faults in the code of TorchScript and torch.export programs, in files that are stale, and by exporting wrong models."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.cli.main import run
from faults.planting.companions import change_config
from faults.planting.onnx_graph import NoSiteError, Planted, pick
from faults.planting.weight_files import Arrays, read_weights, write_weights

Random = np.random.Generator
CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
EPOCH = 1e-3
"""Relative change of weights from one epoch to the next."""


def keep(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Changes nothing: a correct program, which no criterion should reject."""
    return Planted("nothing was changed")


def edit_torchscript(
    artifact: Path, random: Random, backend: str, fixture: Path, pattern: str, replacement: str
) -> Planted:
    """Replaces one match of a pattern in the code of a TorchScript program."""
    file = artifact / "model.pt"
    with zipfile.ZipFile(file) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
    sites = [
        (name, match)
        for name, content in parts.items()
        if name.endswith(".py")
        for match in re.finditer(pattern, content.decode())
        if match.expand(replacement) != match[0]
    ]
    name, match = pick(random, sites)
    text = parts[name].decode()
    module = script_modules(file).get(_class_name(name, text, match.start()), "")
    parts[name] = (text[: match.start()] + match.expand(replacement) + text[match.end() :]).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for one, content in parts.items():
            archive.writestr(one, content)
    return Planted(f"{match.expand(replacement)} for {match[0]} in {module or name}", module)


def _class_name(file: str, text: str, position: int) -> str:
    """Returns the qualified name of the class that a position of a file lies in."""
    module = file.partition("code/")[2].removesuffix(".py").replace("/", ".")
    names = [one[1] for one in CLASS.finditer(text, 0, position)]
    return f"{module}.{names[-1]}" if names else ""


def script_modules(file: Path) -> dict[str, str]:
    """Returns the first module of each class of a TorchScript program, by the qualified name of the class."""
    import torch

    found: dict[str, str] = {}
    for path, module in torch.jit.load(file).named_modules():
        found.setdefault(module._c._type().qualified_name(), path.partition(".")[2])
    return found


def edit_torch_export(
    artifact: Path,
    random: Random,
    backend: str,
    fixture: Path,
    target: str,
    new_target: str = "",
    argument: int | str = "",
    value: Any = None,
) -> Planted:
    """Changes an operator of a program of torch.export, or one of its arguments."""
    import torch

    program = torch.export.load(artifact / "model.pt2")
    nodes = [one for one in program.graph.nodes if str(one.target) == target and _fx_module(one)]
    node = pick(random, nodes)
    if new_target:
        name, _, overload = new_target.removeprefix("aten.").partition(".")
        node.target = getattr(getattr(torch.ops.aten, name), overload)
        node.args, node.kwargs = node.args[:1], {}
    elif isinstance(argument, str):
        node.update_kwarg(argument, value)
    else:
        if len(node.args) <= argument or node.args[argument] == value:
            raise NoSiteError
        node.update_arg(argument, value)
    program.graph_module.recompile()
    torch.export.save(program, artifact / "model.pt2")
    what = new_target or f"argument {argument} is {value}"
    return Planted(f"{target} {node.name}: {what}", _fx_module(node))


def _fx_module(node: Any) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("_empty") else path.partition(".")[2]


def take_other_epoch(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Puts the weights of another epoch of training into a program: all of them differ a little."""
    arrays = read_weights(artifact, backend)
    changed = {name: next_epoch(value, random) for name, value in arrays.items() if value.ndim > 1}
    if not changed:
        raise NoSiteError
    write_weights(artifact, backend, changed)
    return Planted(f"{len(changed)} weights are those of another epoch")


def take_other_head(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Puts the last weight of another epoch into a program."""
    arrays: Arrays = read_weights(artifact, backend)
    names = [name for name, value in arrays.items() if value.ndim == 2]
    if not names:
        raise NoSiteError
    name = names[-1]
    write_weights(artifact, backend, {name: next_epoch(arrays[name], random)})
    return Planted(f"{name} is that of another epoch", name.rpartition(".")[0], name)


def next_epoch(value: np.ndarray, random: Random) -> np.ndarray:
    """Returns values that differ by a thousandth of their scale."""
    noise = EPOCH * value.std() * random.standard_normal(value.shape)
    return np.asarray(value + noise, value.dtype)


def take_other_external_data(
    artifact: Path, random: Random, backend: str, fixture: Path
) -> Planted:
    """Puts the file of external data of another epoch beside an ONNX program."""
    import onnx

    files = [one for one in artifact.glob("*.data") if one.is_file()]
    file = pick(random, files)
    data = bytearray(file.read_bytes())
    spans = set()
    for program in artifact.glob("*.onnx"):
        for tensor in onnx.load(program, load_external_data=False).graph.initializer:
            if tensor.external_data and tensor.data_type == onnx.TensorProto.FLOAT:
                place = {one.key: one.value for one in tensor.external_data}
                spans.add((int(place.get("offset", 0)), int(np.prod(tensor.dims))))
    for start, count in sorted(spans):
        value = np.frombuffer(bytes(data[start : start + 4 * count]), np.float32)
        data[start : start + 4 * count] = next_epoch(value, random).tobytes()
    file.write_bytes(bytes(data))
    return Planted(f"{file.name} holds the {len(spans)} weights of another epoch")


def export_wrong_model(
    artifact: Path, random: Random, backend: str, fixture: Path, fields: list[str], value: Any
) -> Planted:
    """Exports a model whose config was changed, and puts the program into the artifact."""
    source, output = artifact.with_name("model"), artifact.with_name("exported")
    shutil.copytree(fixture, source)
    try:
        planted = change_config(source, random, "pytorch", fixture, fields, value)
        command = ["export", str(source), str(output), "--to", backend, "--no-validate", "--json"]
        with contextlib.redirect_stdout(io.StringIO()):
            run(command)
        if not output.is_dir():
            raise NoSiteError
        for name in ("config.json", "artifact.json"):
            shutil.copy(artifact / name, output / name)
        shutil.rmtree(artifact)
        output.rename(artifact)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(output, ignore_errors=True)
    return Planted(f"exported from a model with {planted.what.removeprefix('config.json: ')}")
