"""Reads the configs of research repositories, and says in transformers' terms what they and the tensors' shapes say.

The section ``[google]`` or ``[t5x]`` of an architecture has an expression, or several by preference, for each field of transformers' config
(``config``) over the fields of the file and ``shapes``, the shapes of the variables by name; ``[google]`` names the files (``config_files``).
A field whose expression asks for something that is not there is left to the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.research.gin_file import read_bindings

GIN_SUFFIX = ".gin"


def is_gin(config: Config) -> bool:
    """Whether a config was read from a gin file."""
    return config.file is not None and config.file.suffix == GIN_SUFFIX


def read_gin(path: Path) -> Config:
    """Reads the settings of a gin file: its macros, and parameters of classes as tables; values that are no literals are left out.

    Raises:
        CheckpointError: It is not text, or is too long.
    """
    values: dict[str, Any] = {}
    for name, binding in read_bindings(path).items():
        first, _, last = name.rpartition(".")
        table = values.setdefault(first, {}) if first else values
        if binding.value is not None and isinstance(table, dict):
            table[last] = binding.value
    return Config({name: value for name, value in values.items() if value != {}}, path)


def translate(
    config: Config, spec: ArchitectureSpec, shapes: Mapping[str, Shape], layout: str = "google"
) -> Config:
    """Returns the config with the fields that transformers has and a repository's config calls otherwise or leaves to the code.

    A config that names its model type is transformers' own: only what it lacks is added.

    Args:
        config: The config as it was read.
        spec: The architecture.
        shapes: The shapes of the checkpoint's variables.
        layout: The section that has the expressions.
    """
    found = config
    is_theirs = config.model_type is None or "model_type" in config.edits
    for field, texts in spec.layouts[layout].get("config", {}).items():
        if is_theirs or field not in config.values:
            several = [texts] if isinstance(texts, str) else texts
            values = (_evaluate(text, found, shapes) for text in several)
            value = next((one for one in values if one is not None), None)
            if value is not None and value != config.values.get(field, spec.defaults.get(field)):
                found = found.with_edits({field: value})
    return found


def _evaluate(text: str, config: Config, shapes: Mapping[str, Shape]) -> Any:
    """Returns the value of an expression over a repository's config; None where it asks for what is not there."""

    def lookup(name: str) -> Any:
        return shapes if name == "shapes" else config.lookup(name)

    try:
        return expressions.evaluate(text, lookup)
    except (ArchitectureError, LookupError, TypeError, ValueError, ArithmeticError):
        return None
