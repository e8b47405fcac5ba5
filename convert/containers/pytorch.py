"""PyTorch checkpoints: the zip format of torch 1.6 and later, and the legacy format before it.

The pickle is read by a machine that cannot call anything (``_pytorch/unpickle.py``); tensors are strided views of
storages, which are located and checked without being read. ``metadata`` is not written, since the format cannot store
it; the layout of such a file follows from its tensor names.
"""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers._pytorch.allowed_globals import ALLOWED_GLOBALS
from equipoise.convert.containers._pytorch.legacy_format import MAGIC_BYTES, read_legacy
from equipoise.convert.containers._pytorch.programs import (
    CONSTANT_PREFIX,
    read_exported_program,
    read_torchscript,
)
from equipoise.convert.containers._pytorch.tensor_tree import (
    PickledTensors,
    collect_tensors,
)
from equipoise.convert.containers._pytorch.writer import Writer
from equipoise.convert.containers._pytorch.zip_storages import load_archive
from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.containers._shared.zip_reader import (
    NO_CRC,
    read_zip,
)
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import ContainerError

__all__ = [
    "CONSTANT_PREFIX",
    "SUFFIXES",
    "Writer",
    "read",
    "read_exported_program",
    "read_torchscript",
    "sniff",
]

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_ZIP_START = b"PK\3\4"
_TAR_MAGIC_OFFSET = 257
_SNIFFED_RECORDS = ("data.pkl", ".format_version", "version", "byteorder", "constants.pkl")


def sniff(path: Path) -> bool:
    """Whether the first bytes are those of a PyTorch zip archive or a legacy file."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP_START):
        name_length = int.from_bytes(head[26:28], "little")
        name = head[30 : 30 + name_length].decode("utf-8", "replace")
        return "/" in name and name.split("/", 1)[1] in _SNIFFED_RECORDS
    return head[:1] == b"\x80" and MAGIC_BYTES in head[:32]


def read(path: Path) -> Container:
    """Reads the tensors of a checkpoint; nested dicts and lists become dotted names.

    Raises:
        UnsafePickleError: The pickle names a global that does not build tensors.
        UnsupportedDtypeError: A tensor is quantized, sparse, nested, or has a dtype that only PyTorch has.
        ContainerError: The file is corrupt, or not a checkpoint.
    """
    with open(path, "rb") as file:
        head = file.read(512)
    with add_file_to_errors(path):
        if head.startswith(_ZIP_START):
            return _read_zip(path)
        if head[:1] == b"\x80" and MAGIC_BYTES in head[:32]:
            return _read_legacy(path)
    raise _unknown_file_error(path, head)


def _unknown_file_error(path: Path, head: bytes) -> ContainerError:
    if head[_TAR_MAGIC_OFFSET : _TAR_MAGIC_OFFSET + 5] == b"ustar":
        return ContainerError(
            "a tar archive of PyTorch before 0.1.10 is not supported",
            file=path,
            hint="load it with any later PyTorch before 2.0 and save it again",
        )
    if head[:1] == b"\x80":
        return ContainerError(
            "a pickle, but not one of torch.save",
            file=path,
            hint="load it where you trust it and save its tensors with torch.save or safetensors",
        )
    return ContainerError(
        "not a PyTorch checkpoint", file=path, expected="a zip archive or a pickle", found=head[:8]
    )


def _container(
    path: Path, found: PickledTensors, metadata: dict[str, str], *oddities: str
) -> Container:
    remarks = tuple(oddity for oddity in oddities if oddity)
    maps = frozenset(found.maps)
    return Container("pytorch", path, found.tensors, metadata, found.left_out, remarks, maps)


def _read_legacy(path: Path) -> Container:
    legacy = read_legacy(path)
    found = collect_tensors(legacy.top, path, legacy.find_storage, legacy.pickled_bytes)
    spare = f"{legacy.trailing_bytes} unused bytes at the end" if legacy.trailing_bytes else ""
    return _container(
        path, found, {"variant": "legacy"}, "legacy format of torch before 1.6", spare
    )


def _read_zip(path: Path) -> Container:
    content = load_archive(read_zip(path), ALLOWED_GLOBALS)
    storages = content.storages
    found = collect_tensors(content.top, path, storages.find_storage, content.pickled_bytes)
    variant = {"variant": "zip", "byteorder": "big" if storages.big_endian else "little"}
    unchecked = content.entry.crc == NO_CRC
    remark = "saved without checksums, so corruption cannot be detected" if unchecked else ""
    return _container(path, found, variant, storages.oddity(), remark)
