"""The manifest ``equipoise.json``: the origin and the hash of every tensor and file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equipoise.convert.conversion.coverage import Status
from equipoise.convert.conversion.plan_types import Plan, Step
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import describe_mismatch, is_inner_path, read_json

MANIFEST_NAME = "equipoise.json"
MANIFEST_FORMAT = 1
_LIBRARIES = ("numpy", "ml_dtypes", "safetensors", "h5py", "msgpack")
_HASHES = {str: str}
_SHAPE = {
    "format": int,
    "architecture": ([str], None),
    "route": [str],
    "dtype": (str, None),
    "options": {
        "architecture?": (str, None),
        "max_shard_size?": (int, None),
        "allow?": _HASHES,
        "allow_lossy?": bool,
        "subtree?": (str, None),
        "variant?": (str, None),
        "dequantize?": bool,
        "merge_adapter?": str,
    },
    "source": {"files": _HASHES},
    "target": {"format": str, "files": _HASHES},
    "companions": _HASHES,
    "sources": _HASHES,
    "tensors": {
        str: (
            {"file": str, "alias_of": str},
            {"file": str, "sha256": str, "dtype": str, "shape": [int], "sources": [str]},
        )
    },
}
_DAMAGED_HINT = "convert again; a manifest is not edited by hand"


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
        problem = describe_mismatch(values, _SHAPE) or _find_broken_reference(values)
        if problem is not None:
            message = f"the manifest is damaged: {problem}"
            raise CheckpointError(message, file=path, hint=_DAMAGED_HINT)
        return cls(values)

    def text(self) -> str:
        """Returns the JSON text."""
        return json.dumps(self.values, indent=1, ensure_ascii=False) + "\n"


def _find_broken_reference(values: Mapping[str, Any]) -> str | None:
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
        if alias is not None and "sha256" not in tensors.get(alias, ()):
            return f"tensors.{name}: alias_of: {alias!r} is not a tensor with a hash"
    return None


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
