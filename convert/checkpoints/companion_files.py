"""Companion files of the weights: config, generation config, tokenizer, processor."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.folders.weight_files import is_shard_index

COMPANION_SUFFIXES = frozenset(
    (".json", ".txt", ".model", ".spm", ".bpe", ".tiktoken", ".jinja", ".vocab")
)
EQUIPOISE_FILES = frozenset(("equipoise.json", "equipoise.progress.json"))
MAX_COMPANION_BYTES = 256 << 20


def companion_files(folder: Path) -> list[Path]:
    """Returns the companion files of a folder, sorted: no weights, no indices of shards, no files of Equipoise."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in COMPANION_SUFFIXES
        and path.name not in EQUIPOISE_FILES
        and not path.name.startswith("adapter_")  # the half of an adapter without its weights
        and not is_shard_index(path)
        and path.is_file()
        and path.stat().st_size <= MAX_COMPANION_BYTES
    )
