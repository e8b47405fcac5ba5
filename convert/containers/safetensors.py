"""safetensors: a JSON header with every offset, then the bytes.

Reader and writer do not use the safetensors library: it accepts duplicate names (safetensors 0.8) and needs the whole
model in memory to write. Data is in the order of the headers; if that is the library's order (widest dtype first, then
by name) the file is byte for byte equal to the library's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from equipoise.convert.containers._shared.checks import (
    byte_size,
    check_headers,
    check_name,
    check_shape,
)
from equipoise.convert.containers._shared.slot_file import Slot, SlotFile, SlotWriter, create_file
from equipoise.convert.containers.base import Container
from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.json_values import check_density, first_duplicate_key
from equipoise.convert.core.tensor import DTYPES, Extent, TensorHeader, TensorRef

SUFFIXES = (".safetensors",)
CAN_SHARE_TENSORS = False
MAX_HEADER_BYTES = 100_000_000
"""The library's own limit for the header, in bytes."""

_METADATA = "__metadata__"
_CODES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_DTYPE_OF: dict[str, DType] = {code: DTYPES[name] for code, name in _CODES.items()}
_CODE_OF: dict[DType, str] = {dtype: code for code, dtype in _DTYPE_OF.items()}
WRITABLE_DTYPES = frozenset(_CODES.values())
"""Names of the dtypes that can be written."""


def sniff(path: Path) -> bool:
    """Whether the file begins with a plausible header length and an opening brace."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(9)
        size = os.fstat(file.fileno()).st_size
    return (
        len(head) == 9
        and head[8:] == b"{"
        and _header_length(head) <= min(MAX_HEADER_BYTES, size - 8)
    )


def read(path: Path) -> Container:
    """Reads the header.

    Raises:
        ContainerError: The header is not valid.
        UnsupportedDtypeError: A tensor's dtype is smaller than a byte, or unknown.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = _header_length(head) if len(head) == 8 else -1
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ContainerError(
                "the header's length is wrong",
                file=path,
                expected=f"2 to {min(MAX_HEADER_BYTES, max(size - 8, 2))} bytes",
                found=f"{length} bytes" if length >= 0 else f"a file of {size} bytes",
                hint="the file is truncated, or not a safetensors file; download it again",
            )
        entries = _parse_header(file.read(length), path)
    metadata = _metadata(entries.pop(_METADATA, None), path)
    start = 8 + length
    # Entries are freed one by one, since there may be many.
    refs = [_tensor_ref(name, entries.pop(name), path, start) for name in list(entries)]
    refs.sort(key=_offset_and_size)
    _check_gapless(refs, path, start, size)
    return Container("safetensors", path, {ref.name: ref for ref in refs}, metadata)


def _header_length(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


class _Entry(NamedTuple):
    """The values of a tensor's entry, not checked yet, in a quarter of the memory of a dict of lists."""

    dtype: object
    shape: object
    offsets: object


def _parse_header(data: bytes, path: Path) -> dict[str, object]:
    shapes: dict[object, object] = {}

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Entry:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = first_duplicate_key(pairs)[:200]
            raise ContainerError("a key is duplicated in the header", file=path, found=ascii(twice))
        is_entry = found.keys() == {"dtype", "shape", "data_offsets"}
        if not is_entry or isinstance(found["shape"], str):  # metadata may have any keys
            return found
        shape = _integers_as_tuple(found["shape"])
        if isinstance(shape, tuple):
            shape = shapes.setdefault(shape, shape)
        code = found["dtype"]
        known = sys.intern(code) if isinstance(code, str) else code
        return _Entry(known, shape, _integers_as_tuple(found["data_offsets"]))

    def constant(word: str) -> float:
        raise ContainerError(
            "the header has a number that JSON does not allow", file=path, found=word
        )

    try:
        check_density(data)
        is_object = data.startswith(b"{")
        text = data.decode("utf-8")
        del data  # it may be large
        entries = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ContainerError(
            "the header is not JSON", file=path, found=str(error)[:200], hint="download it again"
        ) from error
    if not is_object or not isinstance(entries, dict):
        raise ContainerError("the header does not begin with a brace", file=path)
    return entries


def _integers_as_tuple(value: object) -> object:
    """Returns a list of integers as a tuple, and any other value as it is."""
    is_plain = isinstance(value, list) and all(type(one) is int for one in value)
    return tuple(value) if is_plain and isinstance(value, list) else value


def _metadata(found: object, path: Path) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or any(not isinstance(value, str) for value in found.values()):
        raise ContainerError(
            "the metadata is not a map of strings to strings", file=path, found=repr(found)[:200]
        )
    return found


def _tensor_ref(name: str, entry: object, path: Path, start: int) -> TensorRef:
    check_name(name, path)
    if not isinstance(entry, _Entry):
        raise ContainerError(
            "a tensor's entry is malformed",
            file=path,
            tensor=name,
            expected="exactly dtype, shape and data_offsets",
            found=repr(entry)[:200],
        )
    dtype = _dtype(entry.dtype, path, name)
    shape = check_shape(entry.shape, dtype, file=path, tensor=name)
    offsets = entry.offsets
    nbytes = byte_size(shape, dtype)
    if (
        not isinstance(offsets, tuple)
        or len(offsets) != 2
        or offsets[0] < 0
        or offsets[1] - offsets[0] != nbytes
    ):
        raise ContainerError(
            "the offsets do not match the shape",
            file=path,
            tensor=name,
            expected=f"two offsets, {nbytes} bytes apart",
            found=repr(list(offsets) if isinstance(offsets, tuple) else offsets)[:200],
        )
    extent = Extent(path, start + offsets[0], nbytes)
    return TensorRef(name, dtype, shape, path, extent)


def _dtype(code: object, path: Path, name: str) -> DType:
    dtype = _DTYPE_OF.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise UnsupportedDtypeError(
            f"unsupported dtype {code!r}"[:200],
            file=path,
            tensor=name,
            expected="one of " + ", ".join(_DTYPE_OF),
            hint="dtypes of less than a byte (F4, F6) cannot be converted; dequantise the model first",
        )
    return dtype


def _offset_and_size(ref: TensorRef) -> tuple[int, int]:
    return (ref.extent.offset, ref.extent.nbytes) if ref.extent is not None else (0, 0)


def _check_gapless(refs: Sequence[TensorRef], path: Path, start: int, size: int) -> None:
    end = start
    for ref in refs:
        offset, nbytes = _offset_and_size(ref)
        if offset != end:
            raise ContainerError(
                "tensors overlap" if offset < end else "there is a gap before the tensor",
                file=path,
                tensor=ref.name,
                expected=f"data at offset {end - start}",
                found=offset - start,
            )
        end += nbytes
    if end != size:
        raise ContainerError(
            "the file's size does not match its header",
            file=path,
            expected=f"{end} bytes",
            found=f"{size} bytes",
            hint="the file is truncated; download it again" if size < end else None,
        )


class Writer(SlotWriter):
    """Streams tensors into one file, in the order of the headers."""

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=CAN_SHARE_TENSORS)
        encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        text = bytearray(b"{")
        if metadata:
            text += f"{encode(_METADATA)}:{encode(dict(metadata))},".encode()
        end = 0
        for header in headers:
            begin, end = end, end + header.nbytes
            entry = _header_entry(header, path, begin)
            text += f"{encode(header.name)}:{encode(entry)},".encode()
        text[max(len(text) - 1, 1) :] = b"}"
        text += b" " * (-len(text) % 8)
        if len(text) > MAX_HEADER_BYTES:
            raise ContainerError("the header exceeds 100 MB", file=path, hint="write more shards")
        start = 8 + len(text)
        create_file(path, [(0, len(text).to_bytes(8, "little")), (8, text)], start + end)
        del text  # it may be large
        ends = accumulate((header.nbytes for header in headers), initial=start)
        slots = [
            Slot(one.name, ((at, one.nbytes),)) for one, at in zip(headers, ends, strict=False)
        ]
        self._file = SlotFile(path, slots)


def _header_entry(header: TensorHeader, path: Path, begin: int) -> dict[str, object]:
    code = _CODE_OF.get(header.dtype)
    if code is None or header.name == _METADATA:
        problem = "a reserved name" if code is not None else f"unsupported dtype {header.dtype}"
        raise UnsupportedDtypeError(
            f"safetensors cannot hold this tensor: {problem}",
            file=path,
            tensor=header.name,
            hint="convert it to another dtype (--dtype)" if code is None else None,
        )
    end = begin + header.nbytes
    return {"dtype": code, "shape": list(header.shape), "data_offsets": [begin, end]}
