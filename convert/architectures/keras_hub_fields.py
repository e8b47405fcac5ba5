"""Translates single fields of KerasHub's configs, layers in them, and what a class requires; see :mod:`keras_hub_config`."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec
from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.core.framework_types import JsonValue

REGISTERED_PREFIX = "keras_hub>"
Table = Mapping[str, Any]
"""A table of an architecture file."""
_INVERSES = {ast.Mult: operator.floordiv, ast.Add: operator.sub, ast.Sub: operator.add}
_NULL = "None"
"""The expression, or the last of several, for a field that is null where KerasHub's default is something else."""


def is_keras_hub_config(values: Mapping[str, JsonValue]) -> bool:
    """Whether the values are those of a KerasHub preset."""
    return str(values.get("registered_name", "")).startswith(REGISTERED_PREFIX)


def snake_case(name: str) -> str:
    """Returns what Keras calls a layer or model of a class.

    >>> snake_case("ViTBackbone"), snake_case("SmolLM3Backbone")
    ('vi_t_backbone', 'smol_lm3_backbone')
    """
    apart = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", apart).lower()


def describe_layer(
    module: str, name: str, config: dict[str, JsonValue], prefix: str = REGISTERED_PREFIX
) -> dict[str, JsonValue]:
    """Returns how Keras writes an object of KerasHub."""
    registered = f"{prefix}{name}"
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": registered,
    }


def head_fields(name: str, dtype: str) -> dict[str, JsonValue]:
    """Returns the fields that every layer has; none where no dtype is known, as in comparisons."""
    if not dtype:
        return {}
    policy = {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": dtype},
        "registered_name": None,
    }
    return {"name": snake_case(name), "trainable": True, "dtype": policy}


def field_lookup(spec: ArchitectureSpec, config: Config) -> expressions.Lookup:
    """Returns what resolves names in expressions over our fields: entries under ``[let]``, and the config with its defaults."""
    filled = config.with_defaults(spec.defaults)

    def lookup(name: str) -> JsonValue:
        if name in spec.let:
            value: JsonValue = expressions.evaluate(spec.let[name], lookup)
            return value
        found: JsonValue = filled.lookup(name)
        return found

    return lookup


def make_fields(
    table: Table, lookup: expressions.Lookup, dtype: str = ""
) -> Iterator[tuple[str, JsonValue]]:
    """Yields KerasHub's fields; one that the config lacks has KerasHub's default."""
    for field, entry in table.items():
        if layers := _layers_of(entry):
            yield field, _nested_layer(layers, lookup, dtype)
        elif (value := _value(entry, lookup)) is not None or _NULL in (entry, entry[-1]):
            yield field, value


def _nested_layer(layers: list[Table], lookup: expressions.Lookup, dtype: str) -> JsonValue:
    """Returns a layer that is a field of another, the first whose condition holds; null where there is none."""
    holding = (one for one in layers if expressions.evaluate(one.get("when", "True"), lookup))
    entry = next(holding, None)
    if entry is None:
        return None
    name, is_plain = entry["class"], entry.get("plain", False)
    heads = {} if is_plain or entry.get("bare") else head_fields(name, dtype)
    inner = {**heads, **dict(make_fields(entry["config"], lookup, dtype))}
    return describe_layer(entry["module"], name, inner, "" if is_plain else REGISTERED_PREFIX)


def _value(entry: str | list[str], lookup: expressions.Lookup) -> JsonValue:
    """Returns the value of an expression, or of the first of several that is neither null nor false; None if there is none."""
    for text in [entry] if isinstance(entry, str) else entry:
        try:
            value: JsonValue = expressions.evaluate(text, lookup)
        except (ArchitectureError, TypeError, LookupError, ValueError, ArithmeticError):
            continue
        if value is not None and (value is not False or isinstance(entry, str)):
            return value
    return None


def evaluate_theirs(text: str, own: Mapping[str, JsonValue]) -> JsonValue:
    """Returns the value of an expression over KerasHub's config; None where that lacks a field, or has another kind of value."""

    def lookup(name: str) -> JsonValue:
        value: JsonValue = dict(own)
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    try:
        value: JsonValue = expressions.evaluate(text, lookup)
    except (TypeError, LookupError, ValueError, ArithmeticError):
        return None
    return value


def set_field(values: dict[str, JsonValue], name: str, value: JsonValue) -> None:
    """Sets a field by its dotted name, in nested configs."""
    first, _, rest = name.partition(".")
    if not rest:
        values[first] = value
        return
    inner = values.setdefault(first, {})
    if isinstance(inner, dict):
        set_field(inner, rest, value)


def invert_fields(table: Table, own: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """Yields our fields that follow from KerasHub's, one by one."""
    for field, entry in table.items():
        value = own.get(field)
        if value is None:
            continue
        if layers := _layers_of(entry):
            yield from _invert_layer(layers, value if isinstance(value, Mapping) else {})
        elif (found := _inverse(entry if isinstance(entry, str) else entry[0], value)) is not None:
            yield found


def _layers_of(entry: object) -> list[Table]:
    """Returns the layers that a field may have; none for a plain field."""
    if isinstance(entry, Mapping):
        return [entry]
    return [one for one in entry if isinstance(one, Mapping)] if isinstance(entry, list) else []


def _invert_layer(
    layers: list[Table], value: Mapping[str, JsonValue]
) -> Iterator[tuple[str, JsonValue]]:
    """Yields our fields that follow from a layer; the first is meant where a preset has another class."""
    named = (one for one in layers if one["class"] == value.get("class_name"))
    inner = value.get("config")
    yield from invert_fields(
        next(named, layers[0])["config"], inner if isinstance(inner, dict) else {}
    )


def _inverse(text: str, value: JsonValue) -> tuple[str, JsonValue] | None:
    """Returns the field of transformers that an expression is made of, and its value; None if it cannot be inverted.

    >>> _inverse("intermediate_size * 2", 40)
    ('intermediate_size', 20)
    """
    match expressions.parse_expression(text):
        case ast.Name() | ast.Attribute() as name:
            return ast.unparse(name), value
        case ast.BinOp(
            left=ast.Name() | ast.Attribute() as name, op=op, right=ast.Constant(value=number)
        ) if type(op) in _INVERSES:
            if type(value) is not int:
                raise ArchitectureError("the config of the preset has no integer", expected=text)
            return ast.unparse(name), _INVERSES[type(op)](value, number)
    return None


def check_same(
    ours: Mapping[str, JsonValue], theirs: Mapping[str, JsonValue], name: str, config: Config
) -> None:
    """Checks that what the preset says is what the fields of transformers say.

    Raises:
        ArchitectureError: The preset computes something else.
    """
    for field, value in ours.items():
        found = theirs.get(field)
        if isinstance(value, Mapping) and isinstance(found, Mapping):
            inner = (value.get("config"), found.get("config"))
            if isinstance(inner[0], Mapping) and isinstance(inner[1], Mapping):
                check_same(inner[0], inner[1], str(found.get("class_name")), config)
        elif found is not None and found != value:
            raise ArchitectureError(
                f"this preset of {name} is no model of transformers",
                file=config.file,
                expected=f"{field}: {value!r}",
                found=repr(found),
                hint="load it with keras_hub",
            )


def check_requirements(table: Table, name: str, config: Config) -> None:
    """Checks that KerasHub's class computes what a config says.

    Raises:
        ArchitectureError: It computes something else.
    """
    wanted = {
        **table.get("requires", {}),
        **dict.fromkeys(table.get("absent", ())),
    }
    for field, value in wanted.items():
        found = _found_value(config, field, value)
        if found != value and not (value is None and not found):
            raise ArchitectureError(
                f"KerasHub's {name} does not compute what the config says",
                file=config.file,
                expected=f"{field}: {value!r}",
                found=repr(found),
            )


def _found_value(config: Config, field: str, wanted: JsonValue) -> JsonValue:
    """Returns a field of a config, or what transformers 5 has in its place, or what is wanted if neither is there."""
    rope = config.values.get("rope_parameters")
    if isinstance(rope, Mapping) and field not in config.values:
        if field == "rope_scaling" and rope.get("rope_type", "default") != "default":
            return rope
        if field in rope:
            return rope[field]
    try:
        found: JsonValue = config.lookup(field)
    except ArchitectureError:
        return wanted
    return found
