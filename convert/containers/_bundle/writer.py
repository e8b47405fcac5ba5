"""Writes a TensorFlow checkpoint whose keys are the names of the variables, as ``tf.compat.v1.train.Saver`` does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from equipoise.convert.containers._bundle.encoding import encode_entry, encode_header
from equipoise.convert.containers._bundle.entries import (
    DTYPE_NAMES,
    NON_NUMERIC_DTYPES,
    BundleEntry,
)
from equipoise.convert.containers._bundle.sorted_table import MAX_KEY_BYTES
from equipoise.convert.containers._bundle.table_writer import table_bytes
from equipoise.convert.containers._shared.checks import check_headers
from equipoise.convert.containers._shared.slot_file import Slot, SlotFile, create_file, write_all
from equipoise.convert.containers._shared.writer_context import WriterContext
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.hashing import PassingChecksum
from equipoise.convert.core.tensor import DTYPES, TensorHeader

WRITABLE_DTYPES = frozenset(DTYPES) & frozenset(DTYPE_NAMES.values()) - {*NON_NUMERIC_DTYPES}
"""Names of the dtypes that can be written."""

_INDEX = ".index"
_DATA = ".data-00000-of-00001"
_STATE_NAME = "checkpoint"
"""The file that tells TensorFlow which checkpoint of a folder is the latest."""


class Writer(WriterContext):
    """Writes a checkpoint; ``path`` is its index, the data and the file ``checkpoint`` lie beside it.

    Args:
        path: The index, e.g. ``model.ckpt.index``.
        headers: The variables.
        metadata: Not stored.

    Raises:
        UnsupportedDtypeError: TensorFlow has no such dtype.
        ContainerError: A name cannot be stored.
    """

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=False)
        _check_storable(headers, path)
        self._path = path
        self._prefix = path.name.removesuffix(_INDEX)
        self._offsets = [*accumulate((one.nbytes for one in headers), initial=0)]
        self._headers = headers
        self._checksums: list[int] = []
        create_file(path, [], 0)
        create_file(self._data_path, [], self._offsets[-1])
        slots = [
            Slot(one.name, ((at, one.nbytes),))
            for one, at in zip(headers, self._offsets, strict=False)
        ]
        self._file = SlotFile(self._data_path, slots)

    @property
    def _data_path(self) -> Path:
        return self._path.with_name(self._prefix + _DATA)

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Writes the bytes of the next header, in C order.

        Raises:
            ContainerError: Another tensor is next, or the bytes do not match its shape.
        """
        checksum = PassingChecksum()
        self._file.write(name, checksum.tee(blocks))
        self._checksums.append(checksum.masked())

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes of the index that are final: none before it is closed."""
        return 0

    @property
    def further_files(self) -> tuple[Path, ...]:
        """The data, and the file that names the checkpoint."""
        return (self._data_path, self._path.with_name(_STATE_NAME))

    def close(self) -> None:
        """Writes the index and flushes all files to disk.

        Raises:
            ContainerError: Tensors are missing.
        """
        self._file.close()
        entries = {
            header.name.encode(): encode_entry(
                BundleEntry(header.dtype.name, header.shape, 0, offset, header.nbytes, (), crc)
            )
            for header, offset, crc in zip(
                self._headers, self._offsets, self._checksums, strict=False
            )
        }
        _write_flushed(self._path, table_bytes([(b"", encode_header(1)), *sorted(entries.items())]))
        names = ("model_checkpoint_path", "all_model_checkpoint_paths")
        state = "".join(f'{name}: "{self._prefix}"\n' for name in names)
        _write_flushed(self._path.with_name(_STATE_NAME), state.encode())

    def abort(self) -> None:
        """Closes the unfinished file."""
        self._file.release()


def _check_storable(headers: Sequence[TensorHeader], path: Path) -> None:
    for header in headers:
        if header.dtype.name not in WRITABLE_DTYPES:
            raise UnsupportedDtypeError(
                f"a TensorFlow checkpoint cannot hold this tensor: unsupported dtype {header.dtype}",
                file=path,
                tensor=header.name,
                hint="convert it to another dtype (--dtype)",
            )
        if len(header.name.encode()) > MAX_KEY_BYTES:
            raise ContainerError("a name is too long", file=path, tensor=header.name[:200])


def _write_flushed(path: Path, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        write_all(file.fileno(), memoryview(data), 0)
        os.fsync(file.fileno())
