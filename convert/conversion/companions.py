"""Writes the files next to the weights: the config, the tokenizer ..., and the index of shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.checkpoints.preset_files import (
    files_for_preset,
    files_from_preset,
    is_preset,
    with_preprocessor,
)
from equipoise.convert.checkpoints.sentence_modules import write_sentence_modules
from equipoise.convert.conversion.plan_types import CAST_DTYPES, Plan
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.tensor import is_floating
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
    if len(plan.shards) > 1 and plan.target.splits:
        name = f"{plan.target.filename}.index.json"
        write_atomic(target / name, _index_text(plan))
        names.append(name)
    return names


def _copy_companions(plan: Plan, target: Path) -> list[str]:
    """Copies the companion files and returns their names; after a cast the config gets the new dtype."""
    files, texts = _companion_contents(plan)
    identities = {path: FileIdentity.of(path) for path in files.values()}
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)
    check_unchanged(identities)
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    names = [*files, *texts]
    config = plan.checkpoint.config
    if config is None or config.file is None or CONFIG_NAME in texts:
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


def _companion_contents(plan: Plan) -> tuple[dict[str, Path], dict[str, str]]:
    """Returns the files that are copied, by their names in the output, and the texts that are written."""
    folder = plan.checkpoint.folder
    own = _own_config_files(plan)
    if own and plan.architecture is not None:
        files, texts = files_for_preset(folder, plan.architecture[0])
        return files, with_preprocessor(
            files, {**texts, **own}, *plan.architecture, plan.checkpoint.config
        )
    if is_preset(folder):
        return files_from_preset(folder, plan.architecture[0] if plan.architecture else "")
    files = {path.name: path for path in companion_files(folder)}
    if plan.route[0] == "google" and plan.architecture is not None:
        renamed = names_for_transformers(plan.architecture[0], files)
        files = {renamed[name]: path for name, path in files.items()}
    return files, {}


def _own_config_files(plan: Plan) -> dict[str, str]:
    """Returns the texts of the config files of a layout that is not transformers', by name."""
    make = getattr(layout_module(plan.route[-1]), "config_files", None)
    config = plan.checkpoint.config
    if make is None or plan.architecture is None or config is None:
        return {}
    dtypes = [header.dtype for shard in plan.shards for header in shard.headers]
    dtype = next((one.name for one in dtypes if is_floating(one)), "float32")
    texts: dict[str, str] = make(*plan.architecture, config, dtype)
    return texts


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
