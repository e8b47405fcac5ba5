"""The manifest ``equipoise.json``: the origin and the hash of every tensor and file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equipoise.convert.architectures.config import read_json
from equipoise.convert.conversion.coverage import Status
from equipoise.convert.conversion.plan_types import Plan, Step
from equipoise.convert.core.errors import CheckpointError

MANIFEST_NAME = "equipoise.json"
MANIFEST_FORMAT = 1
_LIBRARIES = ("numpy", "ml_dtypes", "safetensors", "h5py", "msgpack")
_TABLE_TYPES = {
    **dict.fromkeys(("tensors", "sources", "source", "target", "companions", "options"), dict),
    "route": list,
}


def _is_record(value: object) -> bool:
    """Whether an entry under ``tensors`` has all fields that are read from it."""
    if not isinstance(value, dict) or not isinstance(value.get("file"), str):
        return False
    return "alias_of" in value or value.keys() >= {"sha256", "dtype", "shape", "sources"}


@dataclass(frozen=True)
class Manifest:
    """The content of ``equipoise.json``.

    Attributes:
        values: ``format``, ``versions``, ``source`` and ``target`` (format, files with sha256), ``architecture``,
            ``route``, ``dtype``, ``options``, ``companions`` (companion files with sha256), ``tensors`` (per target: sha256, dtype, shape, file, sources, operations),
            ``sources`` (per source tensor: sha256), ``left_out``, ``tied``, ``computed``, ``allowed``, ``notes``.
    """

    values: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads a folder's manifest.

        Raises:
            CheckpointError: There is none, or it is not a manifest of Equipoise.
        """
        path = folder / MANIFEST_NAME if folder.is_dir() else folder
        values = read_json(path)
        if values.get("format") != MANIFEST_FORMAT:
            raise CheckpointError(
                "not a manifest of this version", file=path, expected=f"format {MANIFEST_FORMAT}"
            )
        wrong = [key for key, kind in _TABLE_TYPES.items() if not isinstance(values.get(key), kind)]
        whole = not wrong and all(map(_is_record, values["tensors"].values()))
        if not whole:
            problem = f"{wrong[0]!r} is missing or malformed" if wrong else "a tensor is malformed"
            raise CheckpointError(f"the manifest is damaged: {problem}", file=path)
        return cls(values)

    def text(self) -> str:
        """Returns the JSON text."""
        return json.dumps(self.values, indent=1, ensure_ascii=False) + "\n"


def library_versions() -> dict[str, str]:
    """Returns the versions of this package and of the libraries that read and write files."""
    return {name: version(name) for name in ("equipoise", *_LIBRARIES)}


def describe_step(step: Step) -> list[str]:
    """Returns a step's operations as strings, e.g. ``Permute(axes=(1, 0))``."""
    if step.generator is not None:
        return [f"generate({step.generator})"]
    return [str(op) for one in step.rules for op in one.rule.ops]


def build_manifest(
    plan: Plan,
    records: Mapping[str, Mapping[str, Any]],
    source_files: Mapping[str, str],
    target_files: Mapping[str, str],
    companions: Mapping[str, str],
) -> Manifest:
    """Returns the manifest of a finished conversion.

    Args:
        plan: The executed plan.
        records: Per target file: ``tensors`` and ``sources`` with their hashes.
        source_files: SHA-256 of each file of the source.
        target_files: SHA-256 of each weights file written.
        companions: SHA-256 of the other files: index, config, tokenizer.
    """
    by_status = {
        status: {
            entry.name: {"reason": entry.reason, "other": list(entry.other)}
            for entry in plan.coverage
            if entry.status is status
        }
        for status in (Status.TIED, Status.COMPUTED, Status.LEFT_OUT, Status.ALLOWED)
    }
    tensors: dict[str, Any] = {}
    sources: dict[str, Any] = {}
    for record in records.values():
        tensors.update(record["tensors"])
        sources.update(record["sources"])
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
            "tensors": tensors,
        }
    )
