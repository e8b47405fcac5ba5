"""Writes the files next to the weights: the config, the tokenizer ..., and the index of shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.checkpoints.sentence_modules import write_sentence_modules
from equipoise.convert.conversion.plan_types import CAST_DTYPES, Plan
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.files.atomic import write_atomic
from equipoise.convert.files.identity import FileIdentity, check_unchanged
from equipoise.convert.layouts import layout_module
from equipoise.convert.research.companions import names_for_transformers, write_tokenizer_settings

CONFIG_NAME = "config.json"


def write_companions(plan: Plan, target: Path) -> list[str]:
    """Writes every file of the output that holds no weights, but for the manifest; returns their names.

    Raises:
        CheckpointError: A file changed while it was copied, or the config since it was read.
    """
    names = _copy_companions(plan, target)
    if plan.route[0] == "google":
        names += write_tokenizer_settings(plan.checkpoint.config, target)
    names += write_sentence_modules(plan.checkpoint.folder, target)
    if len(plan.shards) > 1:
        name = f"{plan.target.filename}.index.json"
        write_atomic(target / name, _index_text(plan))
        names.append(name)
    return names


def _copy_companions(plan: Plan, target: Path) -> list[str]:
    """Copies the companion files and returns their names; after a cast the config gets the new dtype."""
    identities = {path: FileIdentity.of(path) for path in companion_files(plan.checkpoint.folder)}
    renamed = {path.name: path.name for path in identities}
    if plan.route[0] == "google" and plan.architecture:
        renamed = names_for_transformers(plan.architecture[0], renamed)
    for path in identities:
        shutil.copyfile(path, target / renamed[path.name])
    check_unchanged(identities)
    names = list(renamed.values())
    config = plan.checkpoint.config
    if config is None or config.file is None:
        return names
    values = dict(config.values)
    keys = [key for key in ("torch_dtype", "dtype") if key in values]
    if plan.dtype is not None:
        values.update(dict.fromkeys(keys, CAST_DTYPES[plan.dtype]))
    if config.edits or (plan.dtype is not None and keys):
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


def _index_text(plan: Plan) -> str:
    """Returns the index of shards with the tensor names that transformers uses there."""
    layout = plan.route[-1]
    encode = layout_module(layout).encode
    weight_map = {}
    for shard in plan.shards:
        for step in shard.steps:
            for name, header in zip(step.outputs, step.targets, strict=True):
                stored_name = header.name
                if layout == "tensorflow" and plan.view is not None:
                    stored_name = encode(name, "keras_hdf5", "keras", plan.view)
                weight_map[stored_name] = shard.filename
        weight_map.update({alias.name: shard.filename for alias in shard.aliases})
    index = {"metadata": {"total_size": plan.nbytes}, "weight_map": weight_map}
    return json.dumps(index, indent=2) + "\n"
