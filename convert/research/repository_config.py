"""Reads the configs of research repositories, and says in transformers' terms what they and the tensors' shapes say.

The section ``[google]`` or ``[t5x]`` of an architecture has an expression, or several by preference, for each field of transformers' config
(``config``) over the fields of the file and ``shapes``, the shapes of the variables by name; ``[google]`` names the files (``config_files``).
A field whose expression asks for something that is not there is left to the defaults.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError, CheckpointError

GIN_SUFFIX = ".gin"
MAX_GIN_BYTES = 4 << 20

_BINDING = re.compile(r"(?:[\w.]+/)*(?P<name>[\w.]+)[ \t]*=[ \t]*(?P<value>.+)")
_BLOCK = re.compile(r"(?:[\w.]+/)*(?P<name>[\w.]+):[ \t]*(?:#.*)?")
_MACRO = re.compile(r"%(\w+)[ \t]*(?:#.*)?")


def is_gin(config: Config) -> bool:
    """Whether a config was read from a gin file."""
    return config.file is not None and config.file.suffix == GIN_SUFFIX


def read_gin(path: Path) -> Config:
    """Reads the settings of a gin file: macros by name, parameters by the last part of their scope.

    ``decoder/DenseReluDense.activation = ['gelu', 'linear']`` is the field ``DenseReluDense.activation``, and so is ``activation = ...`` below
    ``decoder/DenseReluDense:``. ``%NAME`` is what the file binds to that name. Other values that are no literals are left out; nothing
    is evaluated, imported or included.

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
    texts = dict(_bindings(text.replace("\\\n", " ")))
    values: dict[str, Any] = {}
    for name, bound in texts.items():
        macro = _MACRO.fullmatch(bound)
        value = _literal(texts.get(macro[1], "") if macro else bound)
        if value is None:
            continue
        *scopes, last = name.split(".")
        table = values.setdefault(scopes[-1], {}) if scopes else values
        if isinstance(table, dict):
            table[last] = value
    return Config(values, path)


def _bindings(text: str) -> Iterator[tuple[str, str]]:
    """Yields what a gin file binds: dotted names and the texts of their values, those in blocks below a name too."""
    block = ""
    for line in text.splitlines():
        if header := _BLOCK.fullmatch(line):
            block = f"{header['name']}."
        elif found := _BINDING.fullmatch(line.strip()):
            is_inside = line[:1].isspace()
            if not is_inside or block:
                yield (block if is_inside else "") + found["name"], found["value"]
        elif line.strip() and not line[:1].isspace():
            block = ""


def _literal(text: str) -> Any:
    """Returns the value of a Python literal, tuples as lists; None for anything else."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return list(value) if isinstance(value, tuple) else value


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
