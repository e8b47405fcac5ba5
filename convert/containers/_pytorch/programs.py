"""Reads the tensors of PyTorch's programs, TorchScript and ``.pt2``, as data: no code of a program is compiled or run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.convert.containers._pytorch.allowed_globals import (
    ALLOWED_GLOBALS,
    StridedView,
    UnsupportedTensor,
    check_count,
    parse_storage,
)
from equipoise.convert.containers._pytorch.inert_globals import InertGlobals
from equipoise.convert.containers._pytorch.pickle_values import Global, Instance
from equipoise.convert.containers._pytorch.tensor_tree import (
    MAX_DEPTH,
    StorageBytes,
    collect_tensors,
    expanded_bytes_limit,
    tensor_ref,
)
from equipoise.convert.containers._pytorch.unpickle import load_pickle
from equipoise.convert.containers._pytorch.zip_storages import ZipStorages, read_pickle
from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.containers._shared.zip_reader import InflatedRecord, ZipArchive, read_zip
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorRef

CONSTANT_PREFIX = "constants."
"""What the names of constants begin with, which are no weights of a module."""
_MAX_CONFIG_BYTES = 64 << 20
_CLASS_PREFIX = "__torch__."
_CONTAINER_BUILDERS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")
_DTYPES_IN_PT2 = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
}  # fmt: skip
"""Numbers of dtypes in the JSON files of ``.pt2`` (``torch._export.serde.schema.ScalarType`` of torch 2.13)."""


def _first(arguments: tuple[object, ...]) -> object:
    return arguments[0] if arguments else ()


_PROGRAM_GLOBALS = InertGlobals(
    (_CLASS_PREFIX,),
    {
        **{f"torch.jit._pickle.{name}": Global(name, _first) for name in _CONTAINER_BUILDERS},
        "torch.jit._pickle.restore_type_tag": Global("restore_type_tag", _first),
    },
)
"""The globals that a TorchScript pickle may name: those of a checkpoint, and classes below ``__torch__``."""


def read_torchscript(path: Path) -> dict[str, TensorRef]:
    """Reads the parameters, buffers and constants of a TorchScript archive.

    Names are paths of modules (``model.bert.pooler.dense.weight``); those of constants begin with :data:`CONSTANT_PREFIX`.

    Raises:
        ContainerError: The archive is corrupt, or holds no TorchScript.
        UnsafePickleError: A pickle names a global that neither builds tensors nor is a class of the program.
    """
    with add_file_to_errors(path):
        archive = read_zip(path)
        tensors: dict[str, TensorRef] = {}
        for record, folder, prefix in (
            ("data.pkl", "data", ""),
            ("constants.pkl", "constants", CONSTANT_PREFIX),
        ):
            for name, ref in _pickled_tensors(archive, record, folder).items():
                tensors[prefix + name] = replace(ref, name=prefix + name)
    return tensors


def _pickled_tensors(archive: ZipArchive, record: str, folder: str) -> Mapping[str, TensorRef]:
    names = [name for name in archive.entries if name.split("/", 1)[-1] == record]
    if len(names) != 1:
        raise ContainerError(
            "not a TorchScript archive", expected=f"one {record}", found=len(names)
        )
    pickled = read_pickle(archive, archive.entries[names[0]])
    storages = ZipStorages(archive, names[0].removesuffix(record), folder)
    top, _ = load_pickle(pickled, 0, _PROGRAM_GLOBALS, parse_storage)
    tree = _attributes(top, 0, {})
    return collect_tensors(tree, archive.path, storages.find_storage, len(pickled)).tensors


def _attributes(value: object, depth: int, seen: dict[int, object]) -> object:
    """Returns a value with its objects replaced by dicts of their attributes; one that occurs twice is left out after the first."""
    if depth > MAX_DEPTH:
        raise ContainerError("the program is nested too deeply", expected=f"{MAX_DEPTH} levels")
    if isinstance(value, (StridedView, UnsupportedTensor)):
        return value
    inner = value.state if isinstance(value, Instance) else value
    if not isinstance(inner, (dict, list, tuple)):
        return inner
    if id(value) in seen:
        return "shared"
    seen[id(value)] = value
    if isinstance(inner, dict):
        return {key: _attributes(one, depth + 1, seen) for key, one in inner.items()}
    return [_attributes(one, depth + 1, seen) for one in inner]


def read_exported_program(path: Path) -> dict[str, TensorRef]:
    """Reads the parameters, buffers and constants of a ``.pt2`` archive, as ``torch.export.save`` of torch 2.8 and later writes it.

    Raises:
        ContainerError: The archive is corrupt, or of an older format.
    """
    with add_file_to_errors(path):
        archive = read_zip(path)
        configs = [name for name in archive.entries if name.endswith("_weights_config.json")]
        if not configs:
            raise ContainerError(
                "not a .pt2 archive of torch.export.save",
                expected="data/weights/model_weights_config.json",
                hint="export the model again with torch 2.8 or later",
            )
        tensors: dict[str, TensorRef] = {}
        for kind, prefix in (("weights", ""), ("constants", CONSTANT_PREFIX)):
            for name in archive.entries:
                if name.endswith(f"_{kind}_config.json"):
                    tensors |= dict(_configured_tensors(archive, name, prefix))
    return tensors


def _configured_tensors(
    archive: ZipArchive, config: str, prefix: str
) -> Iterator[tuple[str, TensorRef]]:
    """Yields the tensors that a JSON file of an archive lists, by their names behind a prefix."""
    try:
        entries = json.loads(archive.read(archive.entries[config], _MAX_CONFIG_BYTES))["config"]
        for name, entry in entries.items():
            meta = entry.get("tensor_meta")
            if meta is None or entry.get("use_pickle"):
                continue
            record = f"{config.rpartition('/')[0]}/{entry['path_name']}"
            yield prefix + name, _configured_tensor(archive, prefix + name, record, meta)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ContainerError(f"the record {config!r} is not understood", found=error) from error


def _configured_tensor(
    archive: ZipArchive, name: str, record: str, meta: Mapping[str, Any]
) -> TensorRef:
    shape, strides = (
        tuple(check_count(one["as_int"], field) for one in meta[field])
        for field in ("sizes", "strides")
    )
    offset = check_count(meta["storage_offset"]["as_int"], "offset")
    dtype = _DTYPES_IN_PT2.get(meta["dtype"], f"number {meta['dtype']}")
    entry = archive.entries.get(record)
    if entry is None:
        raise ContainerError(f"the record {record!r} is missing", tensor=name)
    inflated = InflatedRecord(archive, entry).read if entry.deflated else None
    extent = None if entry.deflated else archive.extent(entry)
    region = StorageBytes(entry.size, extent, inflated)
    storage = parse_storage(("storage", ALLOWED_GLOBALS["torch.UntypedStorage"], record, "cpu", 0))
    view = StridedView(storage, offset, shape, strides, dtype)
    return tensor_ref(name, view, archive.path, region, expanded_bytes_limit(archive.path))
