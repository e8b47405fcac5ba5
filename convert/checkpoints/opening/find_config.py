"""Finds the config that belongs to weights, under its present name or under those of early releases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.keras_hub_config import read_keras_hub_config
from equipoise.convert.architectures.keras_hub_fields import is_keras_hub_config
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.files.containment import check_readable
from equipoise.convert.folders.keras_task import read_task
from equipoise.convert.folders.training_states import is_t5x_step
from equipoise.convert.research.marks import type_of_file
from equipoise.convert.research.repository_config import GIN_SUFFIX, read_gin

_ENDING = "_config.json"


def find_config(source: Path, entry: Path, given: str | Path | None) -> Config | None:
    """Returns the config of weights; None if there is none.

    A config of early releases or research repositories (``bert_config.json``, ``hparams.json``, ``operative_config.gin``) is taken where there
    is no ``config.json``; its name says the model type that it lacks.

    Args:
        source: The folder or file that is opened.
        entry: The file of the weights, or their index.
        given: The config that the user gives instead.

    Raises:
        CheckpointError: It cannot be read.
    """
    if given is not None:
        return _read(Path(given))
    folders = [source] if source.is_dir() else []
    # A SavedModel has its weights in MODEL/saved_model/1/variables and no config there.
    # T5X has its config in the folder above that of a step.
    above = 4 if entry.parent.name == "variables" else 2 if is_t5x_step(entry.parent) else 1
    folders += list(entry.parents)[:above]
    for folder in folders:
        path = folder / "config.json"
        if os.path.lexists(path):
            check_readable(path, folder)
            return _read(path)
        early = [path for path in sorted(folder.glob("*.*")) if _named_type(path)]
        if len(early) == 1:
            check_readable(early[0], folder)
            return _read(early[0])
    return None


def config_of_subtree(config: Config | None, subtree: str | None) -> Config | None:
    """Returns the config of one of several models: that in ``detector_config`` for ``detector_model``, where the whole is of no known type."""
    if config is None or subtree is None or config.model_type in spec_names():
        return config
    inner = config.values.get(f"{subtree.strip('.').removesuffix('_model')}_config")
    known = isinstance(inner, Mapping) and inner.get("model_type") in spec_names()
    return Config(inner, config.file) if known and isinstance(inner, Mapping) else config


def _named_type(path: Path) -> str | None:
    """Returns the model type that the name of a config says, e.g. ``bert`` for ``bert_config.json``."""
    name = path.name.removesuffix(_ENDING) if path.name.endswith(_ENDING) else ""
    early = (one for one in spec_names() if name in (one, one.replace("-", "_")))
    return next(early, None) or type_of_file(path.name)


def _read(path: Path) -> Config:
    config = read_gin(path) if path.suffix == GIN_SUFFIX else Config.read(path)
    if is_keras_hub_config(config.values):
        return read_keras_hub_config(config, read_task(path.parent))
    named = _named_type(path)
    return config.with_edits({"model_type": named}) if named and not config.model_type else config
