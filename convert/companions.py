"""Files that travel with the weights: config, generation config, tokenizer, processor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from equipoise.convert.steps import DTYPE_NAMES, Plan

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


def copy_companions(plan: Plan, target: Path) -> list[str]:
    """Copies them; the config says the new dtype after a cast. Returns the names."""
    names = []
    for path in companions(plan.checkpoint.folder):
        shutil.copyfile(path, target / path.name)
        names.append(path.name)
    config = plan.checkpoint.config
    if config is None or config.file is None:
        return names
    values = dict(config.values)
    keys = [key for key in ("torch_dtype", "dtype") if key in values]
    if plan.dtype is not None and keys:
        values.update(dict.fromkeys(keys, DTYPE_NAMES[plan.dtype]))
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (target / "config.json").write_text(text, encoding="utf-8")
    elif config.file.parent != plan.checkpoint.folder or config.file.name != "config.json":
        shutil.copyfile(config.file, target / "config.json")
    return names if "config.json" in names else ["config.json", *names]
