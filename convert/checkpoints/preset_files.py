"""Tokenizer files of a KerasHub preset: their names there and in a folder of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.keras_hub_fields import (
    REGISTERED_PREFIX,
    describe_layer,
    field_lookup,
    is_keras_hub_config,
    make_fields,
    snake_case,
)
from equipoise.convert.architectures.keras_hub_tables import task_of_class
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.checkpoints.companion_files import (
    MAX_COMPANION_BYTES,
    companion_files,
    companion_notes,
)
from equipoise.convert.core.framework_types import JsonValue
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.containment import reason_not_to_read
from equipoise.convert.files.file_names import TASK_CONFIG

ASSETS = "assets/tokenizer"
_NAMES = {
    "vocabulary.txt": "vocab.txt",
    "vocabulary.json": "vocab.json",
    "merges.txt": "merges.txt",
    "vocabulary.spm": "tokenizer.model",
}
"""Name in a preset -> name in transformers where the architecture says nothing else."""
_ARGUMENTS = {
    "vocabulary.txt": "vocabulary",
    "vocabulary.json": "vocabulary",
    "merges.txt": "merges",
    "vocabulary.spm": "proto",
}
"""Name in a preset -> argument of KerasHub's class, which is null in a preset, as the file lies beside."""
_TOKENIZER_CONFIG, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_PREPROCESSOR = "preprocessor.json"


def is_preset(folder: Path) -> bool:
    """Whether a folder holds the config of a KerasHub preset."""
    path = folder / "config.json"
    if not path.is_file() or reason_not_to_read(path, folder):
        return False
    return is_keras_hub_config(Config.read(path).values)


def files_from_preset(folder: Path, model_type: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Returns what a folder of transformers has of a preset's tokenizer: files to copy by name, and texts to write.

    Args:
        folder: The preset.
        model_type: The architecture, whose file names KerasHub's class of the tokenizer.
    """
    names = {**_NAMES, **_assets(_tokenizer_table(model_type))}
    files = {
        name: path
        for asset, name in names.items()
        if _is_readable(path := folder / ASSETS / asset, folder)
    }
    texts: dict[str, str] = {}
    if files and "lowercase" in (settings := _settings(folder / _TOKENIZER_CONFIG, folder)):
        values = {"do_lower_case": bool(settings["lowercase"])}
        texts[_SETTINGS] = json.dumps(values, indent=2) + "\n"
    return files, texts


def files_for_preset(folder: Path, model_type: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Returns what a preset has of a tokenizer of transformers: files to copy by path, and texts to write.

    Args:
        folder: The source's folder, of transformers or itself a preset.
        model_type: The architecture, whose file names KerasHub's class of the tokenizer.
    """
    if is_preset(folder):
        own = [ASSETS + "/" + asset for asset in _NAMES]
        files = {name: folder / name for name in own if _is_readable(folder / name, folder)}
        path = folder / _TOKENIZER_CONFIG
        return {**files, **({path.name: path} if _is_readable(path, folder) else {})}, {}
    table = _tokenizer_table(model_type)
    if not table:
        return {}, {}
    wanted = {name: f"{ASSETS}/{asset}" for asset, name in _assets(table).items()}
    files = {
        place: folder / name
        for name, place in wanted.items()
        if _is_readable(folder / name, folder)
    }
    if len(files) < len(wanted):
        return {}, {}
    return files, {_TOKENIZER_CONFIG: _tokenizer_text(table, folder)}


def with_preprocessor(
    files: Mapping[str, Path],
    texts: dict[str, str],
    model_type: str,
    class_name: str,
    config: Config | None,
) -> dict[str, str]:
    """Returns the texts of a preset with a preprocessor in its task, where there are a task and a tokenizer.

    Args:
        files: The files that are copied, by their names in the preset.
        texts: The texts that are written, by name.
        model_type: The architecture.
        class_name: PyTorch's class.
        config: Its config.
    """
    spec = load_spec(model_type)
    table = task_of_class(spec, class_name).get("preprocessor") if spec is not None else None
    if _TOKENIZER_CONFIG in files:
        tokenizer = read_json(files[_TOKENIZER_CONFIG])
    else:
        tokenizer = json.loads(texts.get(_TOKENIZER_CONFIG, "{}"))
    if spec is None or config is None or not table or TASK_CONFIG not in texts or not tokenizer:
        return texts
    own = {
        "name": snake_case(table["class"]),
        "tokenizer": tokenizer,
        "config_file": _PREPROCESSOR,
        **dict(make_fields(table.get("config", {}), field_lookup(spec, config))),
    }
    preprocessor = describe_layer(table["module"], table["class"], own)
    task = json.loads(texts[TASK_CONFIG])
    task["config"]["preprocessor"] = preprocessor
    made = {TASK_CONFIG: task, _PREPROCESSOR: preprocessor}
    return {**texts, **{name: json.dumps(value, indent=4) + "\n" for name, value in made.items()}}


def _tokenizer_table(model_type: str) -> Mapping[str, Any]:
    """Returns what an architecture says of its tokenizer in KerasHub; nothing if there is none that a preset could hold."""
    spec = load_spec(model_type)
    table = spec.layouts["keras_hub"].get("keras", {}) if spec is not None else {}
    found: Mapping[str, Any] = table.get("tokenizer", {})
    return found


def _assets(table: Mapping[str, Any]) -> dict[str, str]:
    """Returns the files of a preset's tokenizer -> their names in transformers."""
    own = {name: asset for asset, name in _NAMES.items()}
    return {own.get(name, "vocabulary.spm"): name for name in table.get("files", ())}


def notes_on_companions(
    folder: Path, layout: str, architecture: tuple[str, str] | None
) -> list[str]:
    """Returns a note for each file beside the weights that does not come along, though it would be expected to.

    Args:
        folder: The source's folder.
        layout: The layout that is written.
        architecture: Model type and class, if they are known.
    """
    if is_preset(folder):
        return []
    if layout != "keras-hub" or architecture is None:
        return companion_notes(folder)
    files, _ = files_for_preset(folder, architecture[0])
    kept = {path.name for path in files.values()} | {"config.json"}
    left = [path.name for path in companion_files(folder) if path.name not in kept]
    return [f"{', '.join(left)}: not copied, a preset has no such file"] if left else []


def _is_readable(path: Path, folder: Path) -> bool:
    if not path.is_file() or reason_not_to_read(path, folder):
        return False
    return path.stat().st_size <= MAX_COMPANION_BYTES


def _settings(path: Path, folder: Path) -> Mapping[str, JsonValue]:
    """Returns the fields of the config of a tokenizer: its own, or those that KerasHub keeps below ``config``."""
    if not _is_readable(path, folder):
        return {}
    values = read_json(path)
    inner = values.get("config", values)
    return inner if isinstance(inner, dict) else {}


def _tokenizer_text(table: Mapping[str, JsonValue], folder: Path) -> str:
    settings = _settings(folder / _SETTINGS, folder)
    lower = (
        {"lowercase": bool(settings.get("do_lower_case", True))} if table.get("lowercase") else {}
    )
    files = dict.fromkeys(_ARGUMENTS[asset] for asset in _assets(table))
    config = {
        "name": snake_case(table["class"]),
        "config_file": _TOKENIZER_CONFIG,
        **files,
        **lower,
    }
    values = {
        "module": table["module"],
        "class_name": table["class"],
        "config": config,
        "registered_name": f"{REGISTERED_PREFIX}{table['class']}",
    }
    return json.dumps(values, indent=4) + "\n"
