"""The manifest ``equipoise.json``: the origin and the hash of every tensor and file.

Format 2 has BLAKE3 of tensors, format 1 had SHA-256; files have SHA-256 in both.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equipoise.convert.conversion.coverage import Status
from equipoise.convert.conversion.plan_types import Plan, Step
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import (
    Shape,
    describe_mismatch,
    is_inner_path,
    json_pieces,
    read_json,
)
from equipoise.convert.core.tensor import TensorHeader, dtype_name

MANIFEST_NAME = "equipoise.json"
MANIFEST_FORMAT = 2
TENSOR_HASH = {1: "sha256", MANIFEST_FORMAT: "blake3"}
"""Format of a manifest -> the hash of tensors in it, which is also the name of its field."""

TensorRecord = dict[str, Any]
"""What the manifest says of one tensor of the target."""

_MAX_BYTES = 1 << 30
"""Largest manifest that is read; one of 300,000 tensors has 0.1 GB."""
_LIBRARIES = ("numpy", "ml_dtypes", "safetensors", "h5py", "msgpack", "blake3")
_HASHES = {str: str}
_SHAPE: dict[str, Shape] = {
    "format": int,
    "architecture": ([str], None),
    "route": [str],
    "dtype": (str, None),
    "options": {
        "architecture?": (str, None),
        "max_shard_size?": (int, None),
        "allow?": _HASHES,
        "allow_lossy?": bool,
        "unproven?": bool,
        "subtree?": (str, None),
        "variant?": (str, None),
        "dequantize?": bool,
        "merge_adapter?": str,
    },
    "source": {"files": _HASHES},
    "target": {"format": str, "files": _HASHES},
    "companions": _HASHES,
    "sources": _HASHES,
}
"""The shape of a manifest, but for ``tensors``."""
_DAMAGED_HINT = "convert again; a manifest is not edited by hand"


@dataclass(frozen=True)
class Manifest:
    """The content of ``equipoise.json``.

    Attributes:
        content: What ``values`` has; records of tensors may be made when they are asked for.
        values: ``format``, ``versions``, ``source`` and ``target`` (format, files with sha256), ``architecture``,
            ``route``, ``dtype``, ``options``, ``companions`` (companion files with sha256), ``tensors`` (per target: blake3, dtype, shape, file, sources, operations),
            ``sources`` (per source tensor: blake3), ``left_out``, ``tied``, ``computed``, ``allowed``, ``notes``.
    """

    content: Mapping[str, Any]

    @cached_property
    def values(self) -> dict[str, Any]:
        """The whole content as plain data."""
        return {**self.content, "tensors": dict(self.content["tensors"].items())}

    @property
    def target_files(self) -> dict[str, str]:
        """SHA-256 of each weights file of the output."""
        return dict(self.content["target"]["files"])

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads a folder's manifest.

        Raises:
            CheckpointError: There is none, or it is not a manifest of Equipoise.
        """
        path = folder / MANIFEST_NAME if folder.is_dir() else folder
        values = read_json(path, max_bytes=_MAX_BYTES)
        number = values.get("format")
        field = TENSOR_HASH.get(number) if type(number) is int else None
        if field is None:
            formats = " or ".join(map(str, TENSOR_HASH))
            raise CheckpointError(
                "not a manifest of this version",
                file=path,
                expected=f"format {formats}",
                found=f"format {number!r}"[:80],
            )
        tensors = {"tensors": {str: _record_shapes(field)}}
        problem = describe_mismatch(values, _SHAPE | tensors) or _find_broken_reference(
            values, field
        )
        if problem is not None:
            message = f"the manifest is damaged: {problem}"
            raise CheckpointError(message, file=path, hint=_DAMAGED_HINT)
        return cls(values)

    @property
    def tensor_hash(self) -> str:
        """The hash of tensors, which is also the name of its field: ``blake3``, or ``sha256`` in format 1."""
        return TENSOR_HASH[self.content["format"]]

    def pieces(self) -> Iterator[str]:
        """Yields the JSON text in pieces; each tensor has a line."""
        yield from json_pieces(self.content)
        yield "\n"

    def text(self) -> str:
        """Returns the JSON text."""
        return "".join(self.pieces())


def _record_shapes(field: str) -> tuple[Shape, Shape]:
    """Returns the shapes of a tensor's record: of one that shares the bytes of another, and of one with its own hash."""
    own = {"file": str, field: str, "dtype": str, "shape": [int], "sources": [str]}
    return {"file": str, "alias_of": str}, own


def _find_broken_reference(values: Mapping[str, Any], field: str) -> str | None:
    """Returns what is wrong with a name in a manifest of the right shape, or None."""
    tensors, files = values["tensors"], values["target"]["files"]
    if not values["route"]:
        return "route: the list is empty"
    for name in {**files, **values["companions"], **values["source"]["files"]}:
        if not is_inner_path(name):
            return f"the file {name!r} is outside its folder"
    for name, record in tensors.items():
        if record["file"] not in files:
            return f"tensors.{name}: target.files does not list the file {record['file']!r}"
        alias = record.get("alias_of")
        if alias is not None and field not in tensors.get(alias, ()):
            return f"tensors.{name}: alias_of: {alias!r} is not a tensor with a hash"
    return None


@cache
def library_versions() -> dict[str, str]:
    """Returns the versions of this package and of the libraries that read and write files."""
    return {name: version(name) for name in ("equipoise", *_LIBRARIES)}


def describe_step(step: Step) -> list[str]:
    """Returns a step's operations as strings, e.g. ``Permute(axes=(1, 0))``."""
    if step.generator is not None:
        return [f"generate({step.generator})"]
    return [str(op) for one in step.rules for op in one.rule.ops]


@dataclass(frozen=True)
class TensorHashes:
    """The hashes of the tensors that one file was made of, and of those in it.

    Attributes:
        sources: By their names in the files of the source.
        targets: By their names in the file.
    """

    sources: dict[str, str]
    targets: dict[str, str]


class PlannedRecords(Mapping[str, TensorRecord]):
    """The records of all tensors of a plan's target; each is made when it is asked for, since many take much memory.

    Args:
        plan: The plan.
        hashes: Per target file: the hashes of its tensors.
    """

    def __init__(self, plan: Plan, hashes: Mapping[str, TensorHashes]) -> None:
        self._plan = plan
        self._hashes = hashes

    def stream(self) -> Iterator[tuple[str, TensorRecord]]:
        """Yields the name and the record of each tensor."""
        for shard in self._plan.shards:
            targets = self._hashes[shard.filename].targets
            for step in shard.steps:
                operations = describe_step(step)
                for header in step.targets:
                    digest = targets[header.name]
                    yield header.name, _record(step, header, digest, shard.filename, operations)
            for alias in shard.aliases:
                if alias.name != alias.alias_of:
                    yield alias.name, {"alias_of": alias.alias_of, "file": shard.filename}

    def __getitem__(self, name: str) -> TensorRecord:
        for other, record in self.stream():
            if other == name:
                return record
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.stream())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> ItemsView[str, TensorRecord]:
        """Returns a view that makes each record in turn."""
        return _StreamedItems(self)


class _StreamedItems(ItemsView[str, TensorRecord]):
    _mapping: PlannedRecords

    def __iter__(self) -> Iterator[tuple[str, TensorRecord]]:
        return self._mapping.stream()


def _record(
    step: Step, header: TensorHeader, digest: str, file: str, operations: list[str]
) -> TensorRecord:
    return {
        TENSOR_HASH[MANIFEST_FORMAT]: digest,
        "dtype": dtype_name(header.dtype),
        "shape": list(header.shape),
        "file": file,
        "sources": list(step.sources),
        "operations": operations,
    }


def build_manifest(
    plan: Plan,
    hashes: Mapping[str, TensorHashes],
    source_files: Mapping[str, str],
    target_files: Mapping[str, str],
    companions: Mapping[str, str],
) -> Manifest:
    """Returns the manifest of a finished conversion.

    Args:
        plan: The executed plan.
        hashes: Per target file: the hashes of its tensors.
        source_files: SHA-256 of each file of the source.
        target_files: SHA-256 of each weights file written.
        companions: SHA-256 of the other files: index, config, tokenizer.
    """
    by_status: dict[Status, dict[str, Any]] = {
        status: {} for status in (Status.TIED, Status.COMPUTED, Status.LEFT_OUT, Status.ALLOWED)
    }
    for entry in plan.coverage:
        if entry.status in by_status:
            why = {"reason": entry.reason, "other": list(entry.other)}
            by_status[entry.status][entry.name] = why
    sources = {name: digest for one in hashes.values() for name, digest in one.sources.items()}
    return Manifest(
        {
            "format": MANIFEST_FORMAT,
            "versions": library_versions(),
            "architecture": list(plan.architecture) if plan.architecture else None,
            "route": list(plan.route),
            "dtype": plan.dtype,
            "options": dict(plan.options),
            "source": {"container": plan.checkpoint.container, "files": dict(source_files)},
            "target": {"format": plan.target.name, "files": dict(target_files)},
            "companions": dict(companions),
            "notes": list(plan.notes),
            "tied": by_status[Status.TIED],
            "computed": by_status[Status.COMPUTED],
            "left_out": by_status[Status.LEFT_OUT],
            "allowed": by_status[Status.ALLOWED],
            "sources": sources,
            "tensors": PlannedRecords(plan, hashes),
        }
    )
