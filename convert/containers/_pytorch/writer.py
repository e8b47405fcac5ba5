"""Writes PyTorch's zip format: an ``OrderedDict`` of tensors that ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from equipoise.convert.containers._pytorch.allowed_globals import STORAGE_DTYPES
from equipoise.convert.containers._shared.checks import check_headers
from equipoise.convert.containers._shared.slot_file import write_all
from equipoise.convert.containers._shared.writer_context import WriterContext
from equipoise.convert.containers._shared.zip_writer import (
    ALIGNMENT,
    ZipRecord,
    central_directory,
    place_records,
    write_record,
)
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import TensorHeader, dtype_name

_LEGACY_STORAGES = {dtype: f"{name}Storage" for name, dtype in STORAGE_DTYPES.items()}
_UNTYPED_DTYPES = (
    "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip
"""Dtypes without a storage class in PyTorch, which saves them as untyped bytes."""
_PREFIX = "archive/"
_VERSION = b"3\n"
_ID_BYTES = 40


class Writer(WriterContext):
    """Writes one file, storages in the order of the headers; aliases share the storage of their original.

    Args:
        path: The file.
        headers: The tensors to be written.
        metadata: Ignored: the format cannot store it.
    """

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=True)
        self._path = path
        keys = _storage_keys(path, headers)
        self._expected = [header for header in headers if header.alias_of is None]
        small: list[tuple[str, bytes | bytearray]] = [
            ("data.pkl", _pickle_tensors(headers, keys)),
            (".format_version", b"1"),
            (".storage_alignment", str(ALIGNMENT).encode()),
            ("byteorder", b"little"),
        ]
        self._sizes = [(name, len(raw)) for name, raw in small]
        self._placing = self._place_records()
        self._next_record = next(self._placing)
        self._crcs = array("I")
        self._done = 0
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - lives as long as the writer
        for _, raw in small:
            self._write_record([memoryview(raw)])

    def _place_records(self) -> Iterator[ZipRecord]:
        """Yields all entries; anew each time, since those of many tensors take much memory."""
        storages = ((f"data/{i}", h.nbytes) for i, h in enumerate(self._expected))
        last = (("version", len(_VERSION)), (".data/serialization_id", _ID_BYTES))
        entries = chain(self._sizes, storages, last)
        return place_records((_PREFIX + name, size) for name, size in entries)

    def _write_record(self, blocks: Iterable[memoryview | bytes]) -> int:
        """Writes the next entry; returns the number of bytes received, and goes on if it is the right one."""
        record = self._next_record
        crc, written = write_record(self._file.fileno(), record, blocks)
        if written == record.size:
            self._crcs.append(crc)
            self._next_record = next(self._placing, record)
        return written

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Writes the bytes of the next header, in C order.

        Raises:
            ContainerError: Another header is next, or the bytes do not match its shape.
        """
        expected = self._expected[self._done].name if self._done < len(self._expected) else None
        if name != expected:
            raise ContainerError(
                "tensors come in another order than their headers",
                file=self._path,
                expected=expected or "no further tensor",
                found=name,
            )
        size = self._next_record.size
        written = self._write_record(block.cast("B") for block in blocks)
        if written != size:
            raise ContainerError(
                "the bytes do not fill the shape",
                file=self._path,
                tensor=name,
                expected=f"{size} bytes",
                found=f"{written} bytes" if written < size else "more",
            )
        self._done += 1

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes of the file that are final."""
        return self._next_record.header

    def close(self) -> None:
        """Writes the directory and flushes the file to disk.

        Raises:
            ContainerError: Tensors are missing.
        """
        if self._file.closed:
            return
        if self._done < len(self._expected):
            missing = self._expected[self._done].name
            self._file.close()
            raise ContainerError("a tensor was not written", file=self._path, tensor=missing)
        self._write_record([_VERSION])
        self._write_record([_serialization_id(self._place_records(), self._crcs)])
        end = self._next_record.end
        directory = central_directory(self._place_records(), self._crcs, end)
        write_all(self._file.fileno(), memoryview(directory), end)
        os.fsync(self._file.fileno())
        self._file.close()

    def abort(self) -> None:
        """Closes the unfinished file."""
        self._file.close()


def _serialization_id(records: Iterable[ZipRecord], crcs: Sequence[int]) -> bytes:
    """Returns forty digits that depend on names and contents only, like those of ``torch.save``."""
    names = zlib.crc32(b"\0".join(record.name for record in records))
    contents = zlib.crc32(struct.pack(f"<{len(crcs)}I", *crcs))
    return f"{names:020d}{contents:020d}".encode()


def _storage_keys(path: Path, headers: Sequence[TensorHeader]) -> dict[str, int]:
    """Returns name -> number of its storage.

    Raises:
        ContainerError: A name is duplicated, or an alias does not match its original.
        UnsupportedDtypeError: PyTorch does not have a dtype.
    """
    keys: dict[str, int] = {}
    owners: list[TensorHeader] = []
    for header in headers:
        dtype = dtype_name(header.dtype)
        if header.name in keys:
            raise ContainerError("two headers have the same name", file=path, tensor=header.name)
        if any("\ud800" <= char <= "\udfff" for char in header.name):
            raise ContainerError(
                "a name is not valid Unicode", file=path, tensor=ascii(header.name)
            )
        if dtype not in _LEGACY_STORAGES and dtype not in _UNTYPED_DTYPES:
            raise UnsupportedDtypeError(
                f"PyTorch has no dtype {dtype!r}", file=path, tensor=header.name
            )
        if header.alias_of is None:
            keys[header.name] = len(owners)
            owners.append(header)
            continue
        owner = keys.get(header.alias_of)
        if owner is None or (owners[owner].dtype, owners[owner].nbytes) != (
            header.dtype,
            header.nbytes,
        ):
            raise ContainerError(
                f"it cannot share the bytes of {header.alias_of!r}",
                file=path,
                tensor=header.name,
                expected="an earlier header of the same dtype and size",
            )
        keys[header.name] = owner
    return keys


class _PickleEmitter:
    """Emits pickle protocol 2; repeated constants are memoised."""

    def __init__(self) -> None:
        self.data = bytearray(b"\x80\2")
        self._memo: dict[bytes, int] = {}

    def add(self, *parts: bytes) -> None:
        """Appends opcodes."""
        for part in parts:
            self.data += part

    def shared(self, opcodes: bytes) -> None:
        """Appends opcodes that push a constant, or a memo reference to it."""
        index = self._memo.get(opcodes)
        if index is not None:
            self.add(_memo_opcode(b"h", b"j", index))
            return
        index = self._memo[opcodes] = len(self._memo)
        self.add(opcodes, _memo_opcode(b"q", b"r", index))


def _memo_opcode(short: bytes, long: bytes, index: int) -> bytes:
    return short + bytes([index]) if index < 256 else long + struct.pack("<I", index)


def _pickle_integer(value: int) -> bytes:
    if value < 256:
        return b"K" + bytes([value])
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _pickle_integers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_pickle_integer, values)) + b"t"


def _pickle_text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


_ORDERED_DICT = b"ccollections\nOrderedDict\n"


def _pickle_tensors(headers: Sequence[TensorHeader], keys: Mapping[str, int]) -> bytearray:
    """Returns the pickle of an ``OrderedDict`` of all tensors."""
    out = _PickleEmitter()
    out.shared(_ORDERED_DICT)
    out.add(b")R(")
    for header in headers:
        out.add(_pickle_text(header.name))
        _emit_tensor(out, header, keys[header.name])
    out.add(b"u.")
    return out.data


def _emit_tensor(out: _PickleEmitter, header: TensorHeader, key: int) -> None:
    dtype = dtype_name(header.dtype)
    storage = _LEGACY_STORAGES.get(dtype)
    numel = header.nbytes if storage is None else header.nbytes // header.dtype.itemsize
    version = 3 if storage is None else 2
    out.shared(f"ctorch._utils\n_rebuild_tensor_v{version}\n".encode())
    out.add(b"((")
    out.shared(_pickle_text("storage"))
    module = "torch" if storage else "torch.storage"
    out.shared(f"c{module}\n{storage or 'UntypedStorage'}\n".encode())
    out.add(_pickle_text(str(key)))
    out.shared(_pickle_text("cpu"))
    out.add(_pickle_integer(numel), b"tQ", _pickle_integer(0))
    out.add(_pickle_integers(header.shape), _pickle_integers(_strides(header.shape)), b"\x89")
    out.shared(_ORDERED_DICT)
    out.add(b")R")
    if storage is None:
        out.shared(f"ctorch\n{dtype}\n".encode())
    out.add(b"tR")


def _strides(shape: Sequence[int]) -> list[int]:
    """Returns the strides of a contiguous tensor in elements, as PyTorch defines them."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return strides[::-1]
