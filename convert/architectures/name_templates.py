"""Name templates such as ``encoder.layer.{layer}.attention``: formats and matches them without regular expressions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from string import Formatter
from typing import Any

from equipoise.convert.core.errors import SpecError


@lru_cache(maxsize=4096)
def index_names(template: str) -> tuple[str, ...]:
    """Returns the index names of a template in order of appearance, each once."""
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    if any(not name.isidentifier() for name in names):
        raise SpecError(f"not a template: {template!r}")
    return tuple(dict.fromkeys(names))


def format_name(template: str, indices: Mapping[str, Any]) -> str:
    """Returns the name for these indices, which may have a format.

    >>> format_name("layer.{layer}.wi", {"layer": 11}), format_name("block_{block:03}", {"block": 11})
    ('layer.11.wi', 'block_011')
    """
    return template.format_map(indices) if "{" in template else template


def match_name(template: str, name: str) -> dict[str, int] | None:
    """Returns the indices for which the template yields this name, or None.

    >>> match_name("layer.{layer}.wi", "layer.11.wi")
    {'layer': 11}
    """
    found: dict[str, int] = {}
    position = 0
    for literal, field, form, _ in Formatter().parse(template):
        if not name.startswith(literal, position):
            return None
        position += len(literal)
        if field is None:
            continue
        end = position
        while end < len(name) and name[end].isascii() and name[end].isdigit():
            end += 1
        digits = name[position:end]
        if not digits or format(int(digits), form or "") != digits:
            return None
        if found.setdefault(field, int(digits)) != int(digits):
            return None
        position = end
    return found if position == len(name) else None
