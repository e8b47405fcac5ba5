"""Reads the configs of research repositories, and says in transformers' terms what they and the tensors' shapes say.

The section ``[google]`` of an architecture names them (``config_files``) and has an expression for each field of transformers' config
(``config``) over the fields of the file and ``shapes``, the shapes of the variables by name. A field whose expression asks for
something that is not there is left to the defaults.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError, CheckpointError

GIN_SUFFIX = ".gin"
MAX_GIN_BYTES = 4 << 20

_BINDING = re.compile(r"^(?:[\w.]+/)*(?P<name>[\w.]+)[ \t]*=[ \t]*(?P<value>.+)$", re.MULTILINE)


def read_gin(path: Path) -> Config:
    """Reads the settings of a gin file: macros by name, parameters by the last part of their scope.

    ``decoder/DenseReluDense.activation = ['gelu', 'linear']`` is the field ``DenseReluDense.activation``. Values that are no
    literals (references to others) are left out.

    Raises:
        CheckpointError: It is not text, or is too long.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_GIN_BYTES + 1)
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError("a gin file is text", file=path, found=str(error)) from error
    if len(raw) > MAX_GIN_BYTES:
        raise CheckpointError(f"a gin file has at most {MAX_GIN_BYTES >> 20} MiB", file=path)
    values: dict[str, Any] = {}
    for found in _BINDING.finditer(text.replace("\\\n", " ")):
        value = _literal(found["value"])
        if value is None:
            continue
        *scopes, last = found["name"].split(".")
        table = values.setdefault(scopes[-1], {}) if scopes else values
        if isinstance(table, dict):
            table[last] = value
    return Config(values, path)


def _literal(text: str) -> Any:
    """Returns the value of a Python literal, tuples as lists; None for anything else."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return list(value) if isinstance(value, tuple) else value


def translate(config: Config, spec: ArchitectureSpec, shapes: Mapping[str, Shape]) -> Config:
    """Returns the config with the fields that transformers has and a repository's config calls otherwise or leaves to the code.

    A config that names its model type is transformers' own: only what it lacks is added.

    Args:
        config: The config as it was read.
        spec: The architecture.
        shapes: The shapes of the checkpoint's variables.
    """
    found = config
    is_theirs = config.model_type is None or "model_type" in config.edits
    for field, text in _section(spec).get("config", {}).items():
        if is_theirs or field not in config.values:
            value = _evaluate(text, found, shapes)
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


def _section(spec: ArchitectureSpec) -> Mapping[str, Any]:
    return spec.layouts["google"]
