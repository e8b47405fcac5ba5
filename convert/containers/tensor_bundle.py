"""TensorFlow checkpoints (version 2, "tensor bundle"): ``.index`` next to ``.data-00000-of-00001``.

The CRCs of the index and its blocks are checked when they are read, as are lengths, offsets and overlaps; that of a tensor is checked when
it is read whole. Tensors have the names of the variables: in an object-based checkpoint they are read from its object graph, and
``metadata["key:<name>"]`` keeps the key.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from equipoise.convert.containers._bundle.data_files import DataFiles
from equipoise.convert.containers._bundle.entries import (
    DTYPE_NAMES,
    NON_NUMERIC_DTYPES,
    BundleEntry,
    BundleHeader,
    parse_entry,
    parse_header,
)
from equipoise.convert.containers._bundle.non_weights import (
    ATTRIBUTES,
    MOVING_AVERAGE,
    non_weight_reason,
    non_weight_reason_in_graph,
)
from equipoise.convert.containers._bundle.object_graph import (
    GRAPH_KEY,
    parse_string_tensor,
    variable_names,
)
from equipoise.convert.containers._bundle.parts import join_parts
from equipoise.convert.containers._bundle.sorted_table import TABLE_MAGIC, SortedTable
from equipoise.convert.containers._bundle.writer import WRITABLE_DTYPES, Writer
from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.tensor import TensorRef

__all__ = [
    "CAN_SHARE_TENSORS",
    "DTYPE_NAMES",
    "SUFFIXES",
    "WRITABLE_DTYPES",
    "Writer",
    "read",
    "sniff",
]

SUFFIXES = (".index",)
CAN_SHARE_TENSORS = False
_SLICE_MARK = b"\0"


def sniff(path: Path) -> bool:
    """Whether the file ends with the magic of a LevelDB table."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(TABLE_MAGIC)))
        return file.read() == TABLE_MAGIC


def read(path: Path) -> Container:
    """Reads the variables of a checkpoint.

    Args:
        path: The ``.index`` file, or the prefix that it shares with its data files.

    Raises:
        CheckpointError: A data file is missing.
        UnsupportedDtypeError: A variable is quantized or packed.
        ContainerError: The checkpoint is corrupt, or of version 1.
    """
    index = path if path.is_file() else path.with_name(f"{path.name}.index")
    if not index.is_file():
        raise CheckpointError("the index of the checkpoint is missing", file=index)
    with add_file_to_errors(index):
        header, entries, slices = _read_index(index)
        prefix = index.name.removesuffix(".index")
        return _container(index, entries, DataFiles(index, prefix, header, entries, slices))


def _read_index(
    index: Path,
) -> tuple[BundleHeader, dict[str, BundleEntry], dict[bytes, BundleEntry]]:
    """Returns the header, the tensors by key, and the slices of tensors by encoded key."""
    header: BundleHeader | None = None
    entries: dict[str, BundleEntry] = {}
    slices: dict[bytes, BundleEntry] = {}
    for key, value in SortedTable(index).entries():
        if not key:
            header = parse_header(value)
            if header is None:
                raise ContainerError(
                    "a TensorFlow checkpoint of version 1 is not supported",
                    file=index,
                    hint="load it with TensorFlow and save it with Saver(write_version=V2)",
                )
        elif header is None:
            raise ContainerError("the index has no header")
        elif key.startswith(_SLICE_MARK):
            slices[key] = parse_entry(value)
        else:
            entries[_decode_key(key)] = parse_entry(value)
    if header is None:
        raise ContainerError("the index is empty")
    return header, entries, slices


def _decode_key(key: bytes) -> str:
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise ContainerError("a key is not UTF-8", found=ascii(key[:80])) from None
    if "\0" in name:
        raise ContainerError("a key contains a null character", found=ascii(name[:80]))
    return name


def _container(index: Path, entries: dict[str, BundleEntry], shards: DataFiles) -> Container:
    names, oddities = _variable_names(index, entries, shards)
    tensors: dict[str, TensorRef] = {}
    left_out: dict[str, str] = {}
    averages: dict[str, TensorRef] = {}
    for key, entry in entries.items():
        if entry.dtype in NON_NUMERIC_DTYPES and key != GRAPH_KEY:
            left_out[key] = f"{entry.dtype}, not numeric"
            continue
        if names is None:
            reason = non_weight_reason(key, entry.shape, entries)
        else:
            reason = non_weight_reason_in_graph(key)
        if reason is not None:
            left_out[key] = reason
            owner = key.removesuffix(f"/{MOVING_AVERAGE}")
            if owner in entries and owner != key:
                averages[owner] = shards.tensor_ref(key, key, entry)
            continue
        name = key if names is None else names[key]
        tensors[name] = shards.tensor_ref(name, key, entry)
    style = "name-based" if names is None else "object-based"
    keys = {f"key:{name}": key for key, name in (names or {}).items() if name in tensors}
    metadata = {"variant": style, **keys}
    if names is None:
        tensors, notes = join_parts(tensors)
        oddities = (*oddities, *notes)
    return Container(
        "tensor_bundle", index, tensors, metadata, left_out, oddities, averages=averages
    )


def _variable_names(
    index: Path, entries: dict[str, BundleEntry], shards: DataFiles
) -> tuple[dict[str, str] | None, tuple[str, ...]]:
    """Returns key -> weight name, or None if the keys are the names.

    Variables with a shared name or none get their path in the object graph as name.
    """
    graph = entries.get(GRAPH_KEY)
    if graph is None:
        return None, ()
    if graph.dtype != "string" or math.prod(graph.shape) != 1:
        raise ContainerError("the object graph is not a string", file=index)
    full = variable_names(parse_string_tensor(shards.read_bytes(GRAPH_KEY, graph)))
    weights = [key for key in entries if non_weight_reason_in_graph(key) is None]
    paths = {key: key.partition(ATTRIBUTES)[0] for key in weights}
    wanted = {key: full.get(key, paths[key]) for key in weights}
    times = Counter(wanted.values())
    clear = all(count == 1 for count in times.values())
    names = {key: name if times[name] == 1 else paths[key] for key, name in wanted.items()}
    if len(set(names.values())) != len(names):
        raise ContainerError("two variables have the same name", file=index)
    shared = [name for name, count in times.items() if count > 1]
    oddity = f"several variables are named {', '.join(shared[:3])}; they are named by their paths"
    return names, () if clear else (oddity,)
