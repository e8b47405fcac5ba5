"""Audits of weights that a test makes, and of programs in which it plants a fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from equipoise.convert.containers._bundle.encoding import encode_entry
from equipoise.convert.containers._bundle.entries import NON_NUMERIC_DTYPES, parse_entry
from equipoise.convert.containers._bundle.sorted_table import SortedTable
from equipoise.convert.containers._bundle.table_writer import table_bytes
from equipoise.convert.core.hashing import masked_crc32c
from equipoise.convert.core.tensor import TensorRef
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.audit.content.report import AuditReport

Arrays = dict[str, np.ndarray[Any, Any]]
Change = Callable[[np.ndarray[Any, Any]], None]


def references(arrays: Arrays) -> dict[str, TensorRef]:
    """Returns arrays as tensors of a checkpoint."""
    return {
        name: TensorRef(name, value.dtype, value.shape, Path("source"), load=lambda one=value: one)
        for name, value in arrays.items()
    }


def audit_arrays(
    source: Arrays, program: Arrays, folder: Path, precision: str = "float32"
) -> AuditReport:
    """Writes the weights of a program as a checkpoint and audits it against a source."""
    folder.mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in program.items()}
    save_file(contiguous, folder / "model.safetensors", {"format": "pt"})
    return Auditor(references(source), precision).audit("pytorch", folder)


def explanations(report: AuditReport) -> dict[str, str]:
    """Returns how each weight is explained, by its name."""
    return {one.name: one.how for one in (*report.traced, *report.explained)}


def problems(report: AuditReport) -> dict[str, str]:
    """Returns what is wrong with each weight, by its name."""
    return {one.name: one.problem for one in report.not_accounted}


def patch_bytes(folder: Path, changes: Mapping[bytes, bytes]) -> None:
    """Replaces the bytes of weights in the files of a program; each must be there exactly once, all at the same time."""
    for path in (one for one in folder.rglob("*") if one.is_file()):
        data = path.read_bytes()
        places = {old: data.find(old) for old in changes if old in data}
        edited = bytearray(data)
        for old, place in places.items():
            edited[place : place + len(old)] = changes[old]
        if places:
            path.write_bytes(bytes(edited))
            prefix, is_bundle, _ = path.name.partition(".data-00000-of-00001")
            if is_bundle:
                _store_checksums(path.with_name(f"{prefix}.index"), bytes(edited))


def _store_checksums(index: Path, data: bytes) -> None:
    """Stores the checksums of changed variables, as TensorFlow would: it refuses those whose checksum is wrong."""
    entries = []
    for key, value in SortedTable(index).entries():
        entry = parse_entry(value) if key else None
        if entry is not None and entry.dtype not in NON_NUMERIC_DTYPES:
            crc = masked_crc32c(data[entry.offset : entry.offset + entry.size])
            value = encode_entry(replace(entry, crc=crc))
        entries.append((key, value))
    index.write_bytes(table_bytes(entries))
