"""Checks the config of a KerasHub preset: kinds and ranges of its fields, and that its task is one of the same backbone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.core.framework_types import JsonValue
from equipoise.convert.core.json_values import is_number, is_rate, is_size

_OWN_OF_A_LAYER = frozenset(("name", "trainable", "dtype", "build_config", "compile_config"))
"""Fields that every layer has, which two files may say differently."""


def _is_epsilon(value: JsonValue) -> bool:
    return is_number(value) and 0 < value < 1


def _are_counts(value: JsonValue) -> bool:
    return all(map(is_size, value)) if isinstance(value, list) and value else is_size(value)


_RANGES: tuple[tuple[re.Pattern[str], str, Callable[[JsonValue], bool]], ...] = (
    (re.compile(r".*drop(out|_path)(_rate)?"), "a number from 0 to below 1", is_rate),
    (re.compile(r".*(eps|epsilon)"), "a number above 0 and below 1", _is_epsilon),
    (re.compile(r".*num_(\w+_)?heads"), "a positive integer, or several", _are_counts),
    (
        re.compile(r"num_classes"),
        "a positive integer",
        lambda value: type(value) is int and value > 0,
    ),
)
"""Names of fields, what they may be, and whether a value is that."""
_REQUIRED = re.compile(r"num_(query_|attention_)?heads|num_classes")
"""Fields that KerasHub has no default for, and that decide how tensors are split."""


def check_ranges(
    own: Mapping[str, JsonValue], fields: Mapping[str, object], file: Path | None
) -> None:
    """Checks the kinds and ranges of the fields of a config of KerasHub, those of layers in it too.

    Args:
        own: The config.
        fields: The table of its fields in the architecture file.
        file: Where it was read.

    Raises:
        ArchitectureError: A field has a value that a model cannot have, or one is missing.
    """
    missing = {name: None for name in fields if _REQUIRED.fullmatch(name) and own.get(name) is None}
    for field, value in (*missing.items(), *_fields_with_values(own)):
        for pattern, expected, holds in _RANGES:
            if pattern.fullmatch(field.rpartition(".")[2]) and not holds(value):
                raise ArchitectureError(
                    "a field of the preset has a value that no model has",
                    file=file,
                    expected=f"{field}: {expected}",
                    found="no such field" if field in missing and field not in own else repr(value),
                )


def _fields_with_values(
    own: Mapping[str, JsonValue], start: str = ""
) -> Iterator[tuple[str, JsonValue]]:
    """Yields the fields that are not null with dotted names; a task's backbone has a file of its own."""
    for name, value in own.items():
        if isinstance(value, Mapping) and "class_name" in value and "config" in value:
            inner = value["config"]
            if isinstance(inner, Mapping) and name not in _OWN_OF_A_LAYER | {"backbone"}:
                yield from _fields_with_values(inner, f"{start}{name}.config.")
        elif value is not None:
            yield f"{start}{name}", value


def check_backbone(
    task: Mapping[str, JsonValue], backbone: Mapping[str, JsonValue], task_file: Path, file: Path
) -> None:
    """Checks that the backbone in ``task.json`` is that of ``config.json``, in every field that both have.

    Raises:
        ArchitectureError: It is another.
    """
    own = task.get("config")
    theirs = own.get("backbone") if isinstance(own, Mapping) else None
    for field, found, expected in _differences(theirs, backbone, "config.backbone"):
        raise ArchitectureError(
            f"{task_file.name} and {file.name} of the preset contradict each other",
            file=task_file,
            expected=f"{field}: {expected!r}, as in {file}",
            found=repr(found),
            hint="save the task again with KerasHub; without task.json and task.weights.h5 the backbone alone converts",
        )


def _differences(
    one: JsonValue, other: JsonValue, path: str
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """Yields the fields that both have and that differ, with both values."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        if one is not None and one != other:
            yield path, one, other
        return
    for name in sorted(one.keys() & other.keys() - _OWN_OF_A_LAYER):
        yield from _differences(one[name], other[name], f"{path}.{name}")
