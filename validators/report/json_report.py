"""The complete report as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from equipoise.convert.core import json_values
from equipoise.convert.core.errors import InputError
from equipoise.validators.judgement.results import Report, to_json_value

SCHEMA_VERSION = 1
"""Increased when a field is removed or changes its meaning."""


def to_json(report: Report) -> str:
    """Returns the report as a JSON document; NaN and infinity become null."""
    values = json_values.to_json_value(
        {"generator": "equipoise", "schema": SCHEMA_VERSION, **to_json_value(report)}
    )
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is not UTF-8 contains lone surrogates, which cannot be encoded.
    return text.encode("utf-8", "replace").decode("utf-8")


def from_json(text: str) -> Report:
    """Returns the report of a JSON document: the inverse of :func:`to_json`.

    JSON has no infinity, the relative error of an output that should be zero: null is infinity where a number must be.

    Raises:
        InputError: It is no report, or one of a later schema.
    """
    try:
        values = json.loads(text)
        schema = values["schema"] if values["generator"] == "equipoise" else None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("not a report of `equipoise validate --json`", found=text[:80]) from error
    if schema != SCHEMA_VERSION:
        raise InputError(
            "a report of another schema", found=str(schema), expected=str(SCHEMA_VERSION)
        )
    found: Report = _value(Report, values)
    return found


def _value(kind: Any, value: Any) -> Any:
    """Returns a JSON value as a type that a field of a report has."""
    if get_origin(kind) is UnionType:
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _value(kind, value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [one.name for one in fields(kind) if one.name in value]
        return kind(**{name: _value(hints[name], value[name]) for name in names})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        each: Sequence[Any] = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return tuple(_value(one, item) for one, item in zip(each, value, strict=True))
    if get_origin(kind) is Mapping:
        of_value = get_args(kind)[1]
        return {name: _value(of_value, item) for name, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float:
        return float("inf") if value is None else float(value)
    return value
