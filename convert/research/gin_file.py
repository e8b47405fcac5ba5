"""Reads the settings of a gin file: its literals and macros alone; nothing is evaluated, imported or included."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import CheckpointError

MAX_GIN_BYTES = 4 << 20

_SELECTOR = r"(?P<scope>(?:[\w.]+/)*)(?P<name>[\w.]+)"
_BINDING = re.compile(_SELECTOR + r"[ \t]*=[ \t]*(?P<value>.+)")
_BLOCK = re.compile(_SELECTOR + r":[ \t]*(?:#.*)?")
_MACRO = re.compile(r"%(\w+)[ \t]*(?:#.*)?")


@dataclass(frozen=True)
class GinBinding:
    """What a gin file binds to a name.

    Attributes:
        text: The text of the value.
        value: The value of a literal, tuples as lists; None for anything else.
        is_literal: Whether the text, or that of the macro that it names, is a literal.
    """

    text: str
    value: Any
    is_literal: bool


def read_bindings(path: Path) -> dict[str, GinBinding]:
    """Returns what a gin file binds, by the last two parts of the names.

    ``network.T5Config.num_heads = 8`` is the field ``T5Config.num_heads``, and so is ``num_heads = 8`` below ``network.T5Config:``.
    ``%NAME`` is what the file binds to that name. What is bound in a scope (``eval/network.T5Config.num_heads``) holds there alone, and is left
    out.

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
    return {name: _read_binding(bound, texts) for name, bound in texts.items()}


def _bindings(text: str) -> Iterator[tuple[str, str]]:
    """Yields names and the texts of their values, those in blocks below a name too."""
    block: str | None = ""
    for line in text.splitlines():
        is_inside = line[:1].isspace()
        if header := _BLOCK.fullmatch(line):
            block = None if header["scope"] else f"{header['name']}."
        elif found := _BINDING.fullmatch(line.strip()):
            start = block if is_inside else ""
            if start is not None and not found["scope"] and not (is_inside and not start):
                yield ".".join((start + found["name"]).split(".")[-2:]), found["value"]
        if line.strip() and not is_inside and not header:
            block = ""


def _read_binding(text: str, texts: Mapping[str, str]) -> GinBinding:
    """Returns what a text binds, and what the macro that it names does; one that names itself is no literal."""
    bound, seen = text, set[str]()
    while (macro := _MACRO.fullmatch(bound)) and macro[1] in texts and macro[1] not in seen:
        seen.add(macro[1])
        bound = texts[macro[1]]
    try:
        value = ast.literal_eval(bound.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return GinBinding(text, None, is_literal=False)
    return GinBinding(text, list(value) if isinstance(value, tuple) else value, is_literal=True)
