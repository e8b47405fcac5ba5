"""Writes the files next to the weights: the config, the tokenizer ..., and the index of shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.conversion.plan_types import CAST_DTYPES, Plan
from equipoise.convert.core.output_folder import write_atomic
from equipoise.convert.layouts import layout_module


def write_companions(plan: Plan, target: Path) -> list[str]:
    """Writes every file of the output that holds no weights, but for the manifest; returns their names."""
    names = _copy_companions(plan, target)
    if len(plan.shards) > 1:
        name = f"{plan.target.filename}.index.json"
        write_atomic(target / name, _index_text(plan))
        names.append(name)
    return names


def _copy_companions(plan: Plan, target: Path) -> list[str]:
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


def _index_text(plan: Plan) -> str:
    """Returns the index of shards with the tensor names that transformers uses there."""
    layout = plan.route[-1]
    encode = layout_module(layout).encode
    weight_map = {}
    for shard in plan.shards:
        for step in shard.steps:
            for name, header in zip(step.outputs, step.targets, strict=True):
                stored_name = header.name
                if layout == "tensorflow":
                    stored_name = encode(name, "keras_hdf5", "keras", plan.view)
                weight_map[stored_name] = shard.filename
        weight_map.update({alias.name: shard.filename for alias in shard.aliases})
    index = {"metadata": {"total_size": plan.nbytes}, "weight_map": weight_map}
    return json.dumps(index, indent=2) + "\n"
