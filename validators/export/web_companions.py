"""Completes the files beside a graph for transformers.js: a fast tokenizer, and what its loader reads in ``config.json``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.atomic import write_atomic
from equipoise.exporters.artifact_files import WEB_FOLDER
from equipoise.validators.models.folder import ModelFolder

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""What transformers.js reads of a tokenizer; it knows no ``vocab.txt``, ``merges.txt`` or ``spiece.model``."""
_SETTINGS = "transformers.js_config"


def complete_for_transformers_js(model: ModelFolder, folder: Path) -> tuple[list[str], list[str]]:
    """Adds what transformers.js needs to an artifact.

    Args:
        model: The model.
        folder: The artifact, with its graphs and the model's companions.

    Returns:
        Names of the files that are new, and notes.
    """
    _describe_weights(folder)
    added = _add_tokenizer(model, folder) if model.has_tokenizer else []
    if model.has_tokenizer and not (folder / TOKENIZER_FILES[0]).is_file():
        name = type(model.tokenizer).__name__
        return added, [f"no tokenizer.json: {name} has no form that transformers.js reads"]
    return added, []


def _add_tokenizer(model: ModelFolder, folder: Path) -> list[str]:
    """Writes those files of a tokenizer that the model does not have; returns their names."""
    missing = [name for name in TOKENIZER_FILES if not (folder / name).is_file()]
    if not missing:
        return []
    with TemporaryDirectory() as scratch:
        model.tokenizer.save_pretrained(scratch)
        found = [name for name in missing if (Path(scratch) / name).is_file()]
        for name in found:
            shutil.copyfile(Path(scratch) / name, folder / name)
    return found


def _describe_weights(folder: Path) -> None:
    """Says in ``config.json`` which graphs have how many files of weights, and what a half-precision cache is made of."""
    graphs = sorted((folder / WEB_FOLDER).glob("*.onnx"))
    counts = {path.name: len(list(path.parent.glob(f"{path.name}_data*"))) for path in graphs}
    settings: dict[str, object] = {}
    if outside := {name: count for name, count in counts.items() if count}:
        settings["use_external_data_format"] = outside
    if any(path.stem.endswith("_fp16") for path in graphs):
        settings["kv_cache_dtype"] = {"fp16": "float16"}
    if settings:
        config = read_json(folder / "config.json")
        text = json.dumps({**config, _SETTINGS: settings}, indent=2, sort_keys=True)
        write_atomic(folder / "config.json", text + "\n")
