"""Copies companion files (config, tokenizer ...) into the output folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.conversion.plan_types import CAST_DTYPES, Plan
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.files.identity import FileIdentity, check_unchanged

CONFIG_NAME = "config.json"


def copy_companions(plan: Plan, target: Path) -> list[str]:
    """Copies the companion files and returns their names; after a cast the config gets the new dtype.

    Raises:
        CheckpointError: A file changed while it was copied, or the config since it was read.
    """
    identities = {path: FileIdentity.of(path) for path in companion_files(plan.checkpoint.folder)}
    for path in identities:
        shutil.copyfile(path, target / path.name)
    check_unchanged(identities)
    names = [path.name for path in identities]
    config = plan.checkpoint.config
    if config is None or config.file is None:
        return names
    values = dict(config.values)
    keys = [key for key in ("torch_dtype", "dtype") if key in values]
    if plan.dtype is not None and keys:
        values.update(dict.fromkeys(keys, CAST_DTYPES[plan.dtype]))
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (target / CONFIG_NAME).write_text(text, encoding="utf-8")
    else:
        _copy_config(config, config.file, target / CONFIG_NAME)
    return names if CONFIG_NAME in names else [CONFIG_NAME, *names]


def _copy_config(config: Config, file: Path, target: Path) -> None:
    """Copies the config, and checks that it is still the one that the plan was made with."""
    shutil.copyfile(file, target)
    if json.dumps(Config.read(target).values) != json.dumps(config.values):
        raise CheckpointError(
            "the config was changed while the checkpoint was converted; nothing is written",
            file=file,
            hint="run it again when nothing writes to the source any more",
        )
