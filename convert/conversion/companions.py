"""Copies companion files (config, tokenizer ...) into the output folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.conversion.plan_types import CAST_DTYPES, Plan


def copy_companions(plan: Plan, target: Path) -> list[str]:
    """Copies the companion files and returns their names; after a cast the config gets the new dtype."""
    names = []
    for path in companion_files(plan.checkpoint.folder):
        shutil.copyfile(path, target / path.name)
        names.append(path.name)
    config = plan.checkpoint.config
    if config is None or config.file is None:
        return names
    values = dict(config.values)
    keys = [key for key in ("torch_dtype", "dtype") if key in values]
    if plan.dtype is not None:
        values.update(dict.fromkeys(keys, CAST_DTYPES[plan.dtype]))
    if config.edits or (plan.dtype is not None and keys):
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (target / "config.json").write_text(text, encoding="utf-8")
    elif config.file.parent != plan.checkpoint.folder or config.file.name != "config.json":
        shutil.copyfile(config.file, target / "config.json")
    return names if "config.json" in names else ["config.json", *names]
