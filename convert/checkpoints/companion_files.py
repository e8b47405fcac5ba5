"""Files that travel with the weights: config, generation config, tokenizer, processor."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = frozenset((".json", ".txt", ".model", ".spm", ".bpe", ".tiktoken", ".jinja", ".vocab"))
OWN = frozenset(("equipoise.json", "equipoise.progress.json"))
MAX_BYTES = 256 << 20


def companions(folder: Path) -> list[Path]:
    """The files of a folder that are neither weights, nor indices of shards, nor ours; sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES
        and path.name not in OWN
        and not path.name.endswith(".index.json")
        and path.is_file()
        and path.stat().st_size <= MAX_BYTES
    )
