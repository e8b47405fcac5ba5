"""Reads the file ``.metadata`` of torch.distributed.checkpoint: which parts of which tensors lie where.

It is a pickle of dataclasses. They are not imported: the pickle machine keeps their attributes as plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.containers._pytorch.allowed_globals import TorchDtype, check_count
from equipoise.convert.containers._pytorch.inert_globals import InertGlobals
from equipoise.convert.containers._pytorch.pickle_machine import MAX_PICKLE_BYTES
from equipoise.convert.containers._pytorch.pickle_values import Global, Instance, Opaque
from equipoise.convert.containers._pytorch.unpickle import load_pickle
from equipoise.convert.containers._shared.checks import MAX_AXES, check_name
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ContainerError

_PREFIXES = (
    "torch.distributed.checkpoint.",
    "torch.distributed._shard.",
    "megatron.core.dist_checkpointing.",
)
_PATH_CLASSES = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
_GLOBALS = InertGlobals(
    _PREFIXES,
    {
        f"{module}.{name}": Global(name, lambda arguments: Opaque("path"))
        for module in ("pathlib", "pathlib._local")
        for name in _PATH_CLASSES
    },
)

_Fields = Mapping[object, object]


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A part of a tensor, and the record that holds it.

    Attributes:
        offsets: Where the part begins, along each axis of the tensor.
        sizes: Its shape.
        file: The name of the file, as the metadata has it.
        start: First byte of the record in the file.
        nbytes: Bytes of the record.
        transforms: Names of extensions that the record's bytes went through, e.g. a compression.
    """

    offsets: Shape
    sizes: Shape
    file: str
    start: int
    nbytes: int
    transforms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A tensor by PyTorch's name of its dtype, its shape and its parts."""

    dtype: str
    shape: Shape
    chunks: tuple[ChunkRecord, ...]


@dataclass(frozen=True)
class SaveMetadata:
    """What the file says.

    Attributes:
        tensors: By name.
        values: Names of entries that are no tensors.
        paths: Name -> the keys of the nested maps that it stands for.
    """

    tensors: Mapping[str, SavedTensor]
    values: tuple[str, ...]
    paths: Mapping[str, tuple[object, ...]]


def read_save_metadata(path: Path) -> SaveMetadata:
    """Reads the metadata of a checkpoint.

    Raises:
        UnsafePickleError: It names a class that is not one of a checkpoint's.
        ContainerError: It is corrupt, too large, or not such metadata.
    """
    if path.stat().st_size > MAX_PICKLE_BYTES:
        raise ContainerError(
            "the metadata is too large",
            file=path,
            expected=f"at most {MAX_PICKLE_BYTES} bytes",
            found=f"{path.stat().st_size} bytes",
        )
    top, _ = load_pickle(path.read_bytes(), 0, _GLOBALS)
    fields = _fields(top, "Metadata")
    described = fields.get("state_dict_metadata")
    if not isinstance(described, dict):
        raise ContainerError("the metadata lists no tensors", expected="state_dict_metadata")
    records = _Records(fields.get("storage_data"))
    tensors: dict[str, SavedTensor] = {}
    values: list[str] = []
    for key, entry in described.items():
        name = check_name(_text(key, "name"), path)
        if isinstance(entry, Instance) and _class_of(entry) == "BytesStorageMetadata":
            values.append(name)
        else:
            tensors[name] = _saved_tensor(name, entry, records)
    return SaveMetadata(tensors, tuple(values), _paths(fields.get("planner_data")))


def _class_of(instance: Instance) -> str:
    return instance.name.rpartition(".")[2]


def _fields(value: object, cls: str) -> _Fields:
    """Returns the attributes of an object of a class."""
    if not isinstance(value, Instance) or _class_of(value) != cls:
        raise ContainerError("the metadata is not understood", expected=cls, found=_shown(value))
    if not isinstance(value.state, dict):
        raise ContainerError(f"a {cls} of the metadata has no fields", found=_shown(value.state))
    return value.state


def _shown(value: object) -> str:
    return _class_of(value) if isinstance(value, Instance) else type(value).__name__


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ContainerError(f"a {what} in the metadata is not a string", found=_shown(value))
    return value


def _shape(value: object, what: str, tensor: str) -> Shape:
    if not isinstance(value, (tuple, list)) or len(value) > MAX_AXES:
        raise ContainerError(f"the {what} of a tensor are not understood", tensor=tensor)
    return tuple(check_count(item, what) for item in value)


class _Records:
    """The places of all parts: (name, offsets) -> file, first byte, length."""

    def __init__(self, storage_data: object) -> None:
        if not isinstance(storage_data, dict):
            raise ContainerError("the metadata does not say where tensors lie")
        self._found: dict[tuple[str, Shape | None], object] = {}
        for key, info in storage_data.items():
            index = _fields(key, "MetadataIndex")
            offset = index.get("offset")
            place = _shape(offset, "offsets", "") if isinstance(offset, (tuple, list)) else None
            self._found[_text(index.get("fqn"), "name"), place] = info

    def of(self, name: str, offsets: Shape, sizes: Shape) -> ChunkRecord:
        """Returns the record of a part.

        Raises:
            ContainerError: There is none.
        """
        info = self._found.get((name, offsets))
        if info is None:
            raise ContainerError(
                "the metadata does not say where a part of the tensor lies",
                tensor=name,
                expected=f"a record for the part at {list(offsets)}",
            )
        fields = _fields(info, "_StorageInfo")
        transforms = fields.get("transform_descriptors") or ()
        if not isinstance(transforms, (list, tuple)):
            raise ContainerError("a record of the metadata is not understood", tensor=name)
        return ChunkRecord(
            offsets,
            sizes,
            _text(fields.get("relative_path"), "path"),
            check_count(fields.get("offset"), "offset"),
            check_count(fields.get("length"), "length"),
            tuple(_text(one, "transform") for one in transforms),
        )


def _saved_tensor(name: str, entry: object, records: _Records) -> SavedTensor:
    fields = _fields(entry, "TensorStorageMetadata")
    chunks = fields.get("chunks")
    if not isinstance(chunks, list):
        raise ContainerError("the metadata lists no parts of the tensor", tensor=name)
    found: dict[Shape, ChunkRecord] = {}
    for chunk in chunks:
        part = _fields(chunk, "ChunkStorageMetadata")
        offsets = _shape(part.get("offsets"), "offsets", name)
        sizes = _shape(part.get("sizes"), "sizes", name)
        # Processes of which each holds the whole list it once; a part without elements is stored by some versions only.
        if 0 not in sizes and (offsets not in found or found[offsets].sizes != sizes):
            if offsets in found:
                raise ContainerError("two parts of the tensor begin in one place", tensor=name)
            found[offsets] = records.of(name, offsets, sizes)
    shape = _shape(fields.get("size"), "sizes", name)
    return SavedTensor(_dtype(fields.get("properties"), name), shape, tuple(found.values()))


def _dtype(properties: object, name: str) -> str:
    state = properties.state if isinstance(properties, Instance) else None
    first = state.get("dtype") if isinstance(state, dict) else None
    if isinstance(state, tuple) and state:
        first = state[0]
    if not isinstance(first, TorchDtype):
        raise ContainerError("the metadata does not say the dtype of the tensor", tensor=name)
    return first.name


def _paths(planner_data: object) -> dict[str, tuple[object, ...]]:
    """Returns the keys of nested maps by the names that they were flattened to; nothing if the metadata lacks them."""
    if not isinstance(planner_data, dict):
        return {}

    def known() -> Iterator[tuple[str, tuple[object, ...]]]:
        for name, path in planner_data.items():
            if isinstance(name, str) and isinstance(path, tuple):
                yield name, path

    return dict(known())
