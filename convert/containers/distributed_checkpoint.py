"""Checkpoints of torch.distributed.checkpoint: ``.metadata`` and ``__RANK_N.distcp`` beside it, as ``dcp.save`` writes them.

Each part of a tensor (of one process of FSDP, of a ``DTensor``) is a record of ``torch.save`` within a ``.distcp`` file. The
metadata is read at once; a record is opened when its tensor is read. Names are those that ``dcp_to_torch_save`` of PyTorch gives,
with dots between the keys of nested maps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from equipoise.convert.containers._distributed.save_metadata import (
    ChunkRecord,
    SavedTensor,
    SaveMetadata,
    read_save_metadata,
)
from equipoise.convert.containers._distributed.tiling import Part, check_tiling, stream_parts
from equipoise.convert.containers._pytorch.allowed_globals import ALLOWED_GLOBALS
from equipoise.convert.containers._pytorch.tensor_tree import (
    MAX_MAP_DEPTH,
    SINGLE_TENSOR_NAME,
    collect_tensors,
)
from equipoise.convert.containers._pytorch.zip_storages import load_archive
from equipoise.convert.containers._shared.checks import check_shape
from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.containers._shared.zip_reader import read_zip
from equipoise.convert.containers.base import Container
from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.json_values import is_plain_file_name
from equipoise.convert.core.tensor import Extent, TensorRef, dtype_named
from equipoise.convert.files.containment import check_readable

SUFFIXES = (".metadata",)
_HEAD_BYTES = 512
_MODULE = b"torch.distributed.checkpoint.metadata"


def sniff(path: Path) -> bool:
    """Whether the first bytes are those of a pickle that begins with a class of torch.distributed.checkpoint."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    return head[:1] == b"\x80" and _MODULE in head


def read(path: Path) -> Container:
    """Reads the metadata of a checkpoint.

    Raises:
        UnsafePickleError: The metadata names a class that is not one of a checkpoint's.
        UnsupportedDtypeError: A tensor has a dtype that only PyTorch has.
        CheckpointError: A file is missing.
        ContainerError: The metadata is corrupt, or parts of a tensor are missing.
    """
    with add_file_to_errors(path):
        if not sniff(path):
            raise ContainerError(
                "not the metadata of torch.distributed.checkpoint", expected="a pickle of Metadata"
            )
        metadata = read_save_metadata(path)
        shards = _Shards(path)
        tensors = {name: shards.tensor_ref(name, one) for name, one in metadata.tensors.items()}
    left_out = dict.fromkeys(metadata.values, "a value that is no tensor")
    maps = _map_names(metadata)
    return Container(
        "distributed_checkpoint", path, tensors, {}, left_out, maps=maps, files=shards.files
    )


def _map_names(metadata: SaveMetadata) -> frozenset[str]:
    """Returns the names of the maps that hold tensors, down to the level that files of ``torch.save`` give them."""
    return frozenset(
        ".".join(map(str, keys[:depth]))
        for name, keys in metadata.paths.items()
        if name in metadata.tensors and all(isinstance(key, (str, int)) for key in keys)
        for depth in range(1, min(len(keys), MAX_MAP_DEPTH + 1))
        if isinstance(keys[depth], str)
    )


class _Shards:
    """The files beside the metadata."""

    def __init__(self, metadata: Path) -> None:
        self._metadata = metadata
        self._sizes: dict[str, int] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold tensors."""
        return tuple(self._metadata.parent / name for name in sorted(self._sizes))

    def tensor_ref(self, name: str, saved: SavedTensor) -> TensorRef:
        """Returns the reference of a tensor.

        Raises:
            CheckpointError: A file is missing.
            ContainerError: Its parts do not cover it, or lie outside of their files.
        """
        dtype = dtype_named(saved.dtype, file=self._metadata, tensor=name)
        shape = check_shape(saved.shape, dtype, file=self._metadata, tensor=name)
        parts = [Part(one.offsets, one.sizes) for one in saved.chunks]
        check_tiling(name, shape, parts)
        records = [self._record(name, one) for one in saved.chunks]
        file = records[0].path if records else self._metadata

        def open_records() -> list[tuple[Part, TensorRef]]:
            return [
                (part, _open_record(name, record, part, dtype))
                for part, record in zip(parts, records, strict=True)
            ]

        return TensorRef(
            name, dtype, shape, file, stream=lambda: stream_parts(shape, dtype, open_records())
        )

    def _record(self, tensor: str, chunk: ChunkRecord) -> Extent:
        path = self._metadata.parent / chunk.file
        if chunk.transforms:
            raise ContainerError(
                "a part of the tensor went through an extension that is not supported",
                file=path,
                tensor=tensor,
                found=", ".join(chunk.transforms),
                hint="save it again without extensions",
            )
        if chunk.file not in self._sizes:
            self._sizes[chunk.file] = self._size(chunk.file, path)
        size = self._sizes[chunk.file]
        if chunk.start + chunk.nbytes > size:
            raise ContainerError(
                "the file ends before a part of the tensor does",
                file=path,
                tensor=tensor,
                expected=f"{chunk.nbytes} bytes at offset {chunk.start}",
                found=f"{size} bytes in all",
                hint="the file is truncated; copy it again",
            )
        return Extent(path, chunk.start, chunk.nbytes)

    def _size(self, name: str, path: Path) -> int:
        if not is_plain_file_name(name):
            raise CheckpointError(
                "the metadata names a file outside its folder",
                file=self._metadata,
                found=repr(name),
            )
        if not path.exists() and not path.is_symlink():
            raise CheckpointError(
                f"the file {name!r} is missing",
                file=self._metadata,
                expected="all .distcp files of the processes beside the metadata",
                hint="copy the whole folder",
            )
        check_readable(path, self._metadata.parent)
        return path.stat().st_size


def _open_record(name: str, span: Extent, part: Part, dtype: DType) -> TensorRef:
    """Returns the reference of a part, whose record is opened and compared with the metadata.

    Raises:
        ContainerError: The record is corrupt, or another than the metadata says.
    """
    with add_file_to_errors(span.path):
        content = load_archive(read_zip(span.path, span), ALLOWED_GLOBALS)
        find = content.storages.find_storage
        found = collect_tensors(content.top, span.path, find, content.pickled_bytes).tensors
    ref = found.get(SINGLE_TENSOR_NAME)
    if ref is None or (ref.shape, ref.dtype) != (part.sizes, dtype):
        raise ContainerError(
            "a record is not the part of the tensor that the metadata says",
            file=span.path,
            tensor=name,
            expected=f"{dtype.name} {list(part.sizes)}",
            found="no tensor" if ref is None else f"{ref.dtype.name} {list(ref.shape)}",
        )
    return replace(ref, name=name)
