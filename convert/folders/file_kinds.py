"""The kinds of files that stand where weights are expected and are none, recognised by their first bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.core.errors import ContainerError

_HEAD_BYTES = 512
_MAX_DIRECTORY_BYTES = 1 << 20
"""How much of the end of a zip archive is searched for a name; a directory of 10,000 files is as long."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: Its name in the table of docs/what-it-reads.md.
        what: What it is, as messages say it.
        starts: First bytes of such a file; in lower case, since the head is compared in lower case.
        to_do: The one thing to do; ``{file}`` is the file.
    """

    name: str
    what: str
    starts: tuple[bytes, ...]
    to_do: str


FILE_KINDS = (
    FileKind(
        "git-lfs-pointer",
        "a Git LFS pointer, not the weights",
        (b"version https://git-lfs", b"version https://hawser"),
        "fetch the weights: `git lfs pull` in the repository",
    ),
    FileKind(
        "git-annex-pointer",
        "a git-annex pointer, not the weights",
        (b"/annex/objects/",),
        "fetch the weights: `git annex get` in the repository",
    ),
    FileKind(
        "web-page",
        "a web page, not the weights: the download was answered with a page",
        (b"<!doctype html", b"<html", b"<?xml", b"entry not found", b"repository not found", b"access to model"),
        "download it again, logged in where the model asks for it",
    ),
    FileKind(
        "gguf-file",
        "a GGUF file",
        (b"gguf",),
        "load it with transformers (from_pretrained(FOLDER, gguf_file=NAME)) and save_pretrained",
    ),
    FileKind(
        "compressed",
        "a compressed archive",
        (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"bzh", b"\xfd7zxz", b"rar!"),
        "unpack it, and give the folder or file that was in it",
    ),
    FileKind(
        "numpy-array",
        "an array of NumPy (.npy)",
        (b"\x93numpy",),
        "a model has many arrays: write them with safetensors.numpy.save_file",
    ),
)  # fmt: skip
"""Kinds that their first bytes show."""

TORCHSCRIPT = FileKind(
    "torchscript",
    "a TorchScript program, not a checkpoint",
    (b"/constants.pkl",),
    "load it with torch.jit.load where you trust it, and save its state_dict()",
)
"""A zip archive with these files; which of them is first differs."""

ZIP_KINDS = (
    FileKind(
        "npz-file",
        "arrays of NumPy (.npz)",
        (b".npy",),
        "write them as safetensors: `python -c \"import numpy, safetensors.numpy as s; "
        "s.save_file(dict(numpy.load('{file}')), 'model.safetensors')\"`",
    ),
    FileKind(
        "zipped-folder",
        "a zip archive of files, not of tensors",
        (b"/", b"config.json", b".safetensors", b".bin", b".h5", b".msgpack", b".txt"),
        "unpack it, and give the folder that was in it",
    ),
)  # fmt: skip
"""Kinds that the name of a zip archive's first file shows; ``starts`` holds the ends of names here."""

_ZIP_START = b"PK\3\4"
_ZIP_NAME_OFFSET = 30


def check_file(path: Path) -> None:
    """Refuses a file that holds no tensors and of which that is known.

    Only for files that no container recognises: the length of a safetensors header may spell any of the first bytes.

    Raises:
        ContainerError: The file is of one of the kinds; the message names it and says what to do.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise ContainerError("the file is empty", file=path, hint="download it again")
    if len(head) == _HEAD_BYTES and not any(head):
        raise ContainerError(
            "the file begins with zeros: its download was interrupted",
            file=path,
            hint="download it again",
        )
    kind = _kind_of_head(head.lower()) or (
        _kind_of_zip(head, path) if head.startswith(_ZIP_START) else None
    )
    if kind is not None:
        raise ContainerError(kind.what, file=path, hint=kind.to_do.format(file=path))


def _kind_of_head(head: bytes) -> FileKind | None:
    return next((kind for kind in FILE_KINDS if head.lstrip().startswith(kind.starts)), None)


def _kind_of_zip(head: bytes, path: Path) -> FileKind | None:
    """Returns the kind of a zip archive, or None for one of torch.save."""
    with open(path, "rb") as file:
        file.seek(-min(_MAX_DIRECTORY_BYTES, path.stat().st_size), os.SEEK_END)
        if TORCHSCRIPT.starts[0] in file.read():
            return TORCHSCRIPT
    length = int.from_bytes(head[26:28], "little")
    name = head[_ZIP_NAME_OFFSET : _ZIP_NAME_OFFSET + length].lower()
    return next((kind for kind in ZIP_KINDS if name.endswith(kind.starts)), None)
