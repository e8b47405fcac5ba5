"""Companion files of the weights: config, generation config, tokenizer, processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from equipoise.convert.files.containment import reason_not_to_read
from equipoise.convert.files.ownership import INDEX_TABLES
from equipoise.convert.folders.shard_index import is_shard_index

COMPANION_SUFFIXES = frozenset(
    (".json", ".txt", ".model", ".spm", ".bpe", ".tiktoken", ".jinja", ".vocab")
)
MAX_COMPANION_BYTES = 256 << 20


def companion_paths(folder: Path) -> list[Path]:
    """Returns everything in a folder that has a companion's suffix, whether it may be read or not."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in entries if path.suffix in COMPANION_SUFFIXES and not path.is_dir()]


def companion_files(folder: Path) -> list[Path]:
    """Returns the companion files of a folder, sorted: no weights, no indices of shards, no files of Equipoise."""
    return [path for path, reason in _candidates(folder) if not reason]


def companion_notes(folder: Path) -> list[str]:
    """Returns a note for each file that would be a companion and is not copied: links that lead elsewhere, pipes."""
    return [
        f"{path.name} is not copied: {reason}" for path, reason in _candidates(folder) if reason
    ]


def _candidates(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yields the files with a companion's name, and why they are not copied."""
    for path in companion_paths(folder):
        if path.name in INDEX_TABLES or path.name.startswith("adapter_") or is_shard_index(path):
            continue  # half of an adapter would come without its weights
        reason = reason_not_to_read(path, folder)
        if not reason and path.stat().st_size > MAX_COMPANION_BYTES:
            reason = f"it has more than {MAX_COMPANION_BYTES >> 20} MiB"
        yield path, reason
