"""Artifacts: a folder with a program, its companions (config, tokenizer, processor), and the manifest ``artifact.json``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.core import hashing
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.atomic import write_atomic

MANIFEST_NAME = "artifact.json"
MANIFEST_VERSION = 1
_FOLDERS_ABOVE = 2
"""How far a program lies below its artifact: a SavedModel in ``saved_model/1``."""
_NOT_COPIED = frozenset({MANIFEST_NAME, "samples.json", "pytorch_model.bin.index.json"})
"""Companions that describe the source and not the artifact."""


@dataclass(frozen=True)
class Attempt:
    """The outcome of one export strategy.

    Attributes:
        way: Name of the strategy.
        how: Its description.
        verdict: The validator's verdict; empty if there was no program or no validation.
        reason: Why the program was not kept: an error, or where it diverged.
        seconds: Duration of the export.
    """

    way: str
    how: str
    verdict: str = ""
    reason: str = ""
    seconds: float = 0.0


_SHAPE = {
    "version?": int,
    "target?": str,
    "program?": str,
    "task?": str,
    "files?": {str: {"size": int, "sha256": str}},
    "graphs?": dict,
    "notes?": [str],
}


@dataclass(frozen=True)
class Artifact:
    """The content of ``artifact.json``.

    Attributes:
        source: The model's name, the hash of every file of weights, and its layout.
        task: The task that the artifact was exported for.
        class_name: PyTorch's class.
        model_type: The model type in the config.
        target: Name of the target, which is also the name of the backend.
        program: File of the program; empty if there are several graphs.
        exporter: The strategy that was kept, and versions of the libraries.
        precision: Dtype of the weights.
        device: Device of the export.
        inputs: Dtype and dimensions of the inputs by name.
        outputs: Dtype and dimensions of the outputs by name.
        settings: Sizes and options that the user asked for.
        verdict: The validator's verdict, or that there was no validation.
        tried: All attempts in order.
        opset: Opset of an ONNX program.
        graphs: File, inputs and outputs of each graph by role, if there are several.
        text_program: The program that takes texts, and on how many its tokenizer was judged; empty if there is none.
        files: Size and hash of every file.
        companions: Names of config, tokenizer and processor files.
        notes: Further remarks.
    """

    source: Mapping[str, Any]
    task: str
    class_name: str
    model_type: str
    target: str
    program: str
    exporter: Mapping[str, Any]
    precision: str
    device: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    verdict: Mapping[str, Any]
    tried: tuple[Attempt, ...]
    opset: int | None = None
    graphs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    text_program: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    companions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the content as JSON values."""
        return {"version": MANIFEST_VERSION, **asdict(self)}


def copy_companions(
    source: Path, target: Path, config: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Copies config, tokenizer and processor files; returns their names.

    Args:
        source: The model's folder.
        target: The artifact's folder.
        config: A config to write instead of the model's; None copies the model's.
    """
    names = []
    for path in companion_files(source):
        if path.name not in _NOT_COPIED:
            shutil.copyfile(path, target / path.name)
            names.append(path.name)
    if config is not None:
        write_atomic(target / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    return tuple(names)


def hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns size and SHA-256 of every file of a folder by name, without ``artifact.json`` and hidden files."""
    return {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hashing.hash_file(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != MANIFEST_NAME
        and not path.name.startswith((".", "equipoise."))
    }


def find_manifest(path: Path) -> dict[str, Any]:
    """Returns the content of ``artifact.json`` of the artifact that a program belongs to; empty if it belongs to none.

    Args:
        path: The program: a file, or a folder such as ``ARTIFACT/saved_model/1``.

    Raises:
        CheckpointError: The file is not a manifest of an artifact.
    """
    folders = [one for one in (path, *path.parents)[: _FOLDERS_ABOVE + 1] if one.is_dir()]
    return next((found for one in folders if (found := read_manifest(one))), {})


def write_manifest(artifact: Artifact, folder: Path) -> None:
    """Writes ``artifact.json``."""
    text = json.dumps(artifact.as_dict(), indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / MANIFEST_NAME, text)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the content of ``artifact.json`` in a folder; empty if there is none.

    Raises:
        CheckpointError: The file is not a manifest of an artifact.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path, _SHAPE, hint="export the model again")
    return content
