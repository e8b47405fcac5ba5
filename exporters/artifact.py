"""An artifact: a folder with a program, what travels along with it, and ``artifact.json``, the account of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.companion_files import EQUIPOISE_FILES, companion_files
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.output_folder import OutputFolder, write_atomic

NAME = "artifact.json"
VERSION = 1
_BLOCK = 1 << 22
_LEFT = frozenset({NAME, "samples.json", "pytorch_model.bin.index.json"})
"""Companions that say something of the source and nothing of the artifact."""


@dataclass(frozen=True)
class Attempt:
    """One way that was tried.

    Attributes:
        way: Its name.
        how: In words.
        verdict: What the validator said; empty where nothing was made or nothing was judged.
        reason: Why it was not kept: an error, or where it diverged.
        seconds: That making it took.
    """

    way: str
    how: str
    verdict: str = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Artifact:
    """What ``artifact.json`` says.

    Attributes:
        source: The model's name, the hash of every file of weights, and its layout.
        task: The task it was made for.
        class_name: PyTorch's class.
        model_type: As in the config.
        target: The target; it is the backend's name too.
        program: The file; empty where there are several graphs.
        exporter: The way that was kept, and the versions of what took part.
        precision: Of the weights.
        device: Where it was exported.
        inputs: Dtype and dimensions by name.
        outputs: The same.
        settings: What was asked for.
        verdict: What the validator found, or that it was not asked.
        tried: Every way, in order.
        opset: Of ONNX.
        graphs: Where there are several: by what each does its file, inputs and outputs.
        files: Size and hash of every file.
        companions: Names of config, tokenizer and processor files.
        notes: What else there is to know.
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
    files: Mapping[str, Any] = field(default_factory=dict)
    companions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"version": VERSION, **asdict(self)}


@contextmanager
def writing(path: Path, source: Path, nbytes: int, *, force: bool) -> Iterator[Path]:
    """A folder beside the place of the artifact; it takes the place at the end, and is gone on any failure.

    Raises:
        OutputError: It may not be written, or the disk is full.
    """
    folder = OutputFolder(path, force=force, fingerprint="artifact")
    folder.open(source, nbytes)
    try:
        with folder.errors():
            yield folder.partial
        folder.commit()
    except BaseException:  # an interrupt too: what is half written must not stay
        folder.discard()
        raise
    folder.release()


def bring_companions(
    source: Path, target: Path, config: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Copies config, tokenizer and processor; gives their names."""
    names = []
    for path in companion_files(source):
        if path.name not in _LEFT | EQUIPOISE_FILES:
            shutil.copyfile(path, target / path.name)
            names.append(path.name)
    if config is not None:
        write_atomic(target / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    return tuple(names)


def hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of every file of a folder by name, ``artifact.json`` and hidden ones excepted."""
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME and not path.name.startswith((".", "equipoise."))
    }


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    made = sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            made.update(block)
    return made.hexdigest()


def save(artifact: Artifact, folder: Path) -> None:
    """Writes ``artifact.json``."""
    text = json.dumps(artifact.as_dict(), indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / NAME, text)


def read(folder: Path) -> dict[str, Any]:
    """What ``artifact.json`` of a folder says; empty where there is none.

    Raises:
        CheckpointError: It is no JSON.
    """
    try:
        found: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(f"not JSON: {error}", file=folder / NAME) from error
    return found
