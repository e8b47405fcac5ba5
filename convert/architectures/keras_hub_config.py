"""Translates configs between ``config.json`` of transformers and that of a KerasHub preset.

An architecture file has the table ``[keras_hub.keras]``:

    module = "keras_hub.src.models.bert.bert_backbone"     where the class is
    classes = { Model = "BertBackbone" }                   class of the architecture -> KerasHub's; the first is taken on reading
    also = ["LlamaBackbone"]                               other classes that are read as the first
    when = "use_post_ffw_norm"                             over KerasHub's config: which architecture a class is that several have
    config = { num_layers = "num_hidden_layers" }          KerasHub's field -> an expression over ours, "None" for null; or several by preference; or a
                                                           layer of its own: { class = ..., module = ..., config = { ... } }, plain = true if Keras
                                                           does not know its class, bare = true if it has its own fields alone,
                                                           when = ... if there is none where that fails
    read = { image_size = "image_shape[0]" }               our field -> an expression over KerasHub's config, where it does not follow
    requires = { hidden_act = "gelu" }                     what KerasHub computes whatever a config says
    absent = ["rope_scaling"]                              what KerasHub's class cannot do
    tokenizer = { class = ..., module = ..., files = ["vocab.txt"], lowercase = true }     and its files in transformers
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.core.framework_types import JsonValue

REGISTERED_PREFIX = "keras_hub>"
_INVERSES = {ast.Mult: operator.floordiv, ast.Add: operator.sub, ast.Sub: operator.add}
_NULL = "None"
"""The expression, or the last of several, for a field that is null where KerasHub's default is something else."""
_Table = Mapping[str, Any]
"""A table of an architecture file."""


def is_keras_hub_config(values: Mapping[str, JsonValue]) -> bool:
    """Whether the values are those of a KerasHub preset."""
    return str(values.get("registered_name", "")).startswith(REGISTERED_PREFIX)


def read_keras_hub_config(config: Config) -> Config:
    """Returns the config of a preset with the fields of transformers; as it is if no architecture file knows the class.

    Raises:
        ArchitectureError: A field has a value that a backbone cannot have, or that transformers' class cannot.
    """
    own = config.values.get("config")
    name = str(config.values.get("class_name"))
    found = _spec_of_class(name, own) if isinstance(own, Mapping) else None
    if found is None or not isinstance(own, Mapping):
        return config
    spec, table = found
    (key, *_) = table["classes"]
    values: dict[str, JsonValue] = {
        "model_type": spec.model_type,
        "architectures": [spec.classes[key].name],
    }
    for field, value in table.get("requires", {}).items():
        _set_field(values, field, value)
    for field, value in _inverted_fields(table["config"], own):
        if field not in spec.let:
            _set_field(values, field, value)
    for field, text in table.get("read", {}).items():
        if (value := _evaluate_theirs(text, own)) is not None:
            _set_field(values, field, value)
    read = Config(values, config.file, edits=values)
    _check_same(dict(_fields(table["config"], _lookup(spec, read))), own, name, config)
    return read


def unknown_backbone(config: Config) -> ArchitectureError:
    """Returns the error for a preset of a class that no architecture file knows."""
    known = [name for _, table in _known_tables() for name in table["classes"].values()]
    return ArchitectureError(
        f"a KerasHub preset of {config.values.get('class_name')}, which is not read",
        file=config.file,
        expected=", ".join(dict.fromkeys(known)),
        hint="load it with keras_hub; some models have export_to_transformers()",
    )


def _known_tables() -> Iterator[tuple[ArchitectureSpec, _Table]]:
    """Yields the architectures that KerasHub has, with their tables."""
    for model_type in spec_names():
        spec = load_spec(model_type)
        if spec is not None and (table := spec.layouts["keras_hub"].get("keras")):
            yield spec, table


def _spec_of_class(
    name: str, own: Mapping[str, JsonValue]
) -> tuple[ArchitectureSpec, _Table] | None:
    """Returns the architecture of a class of KerasHub, which may have one class for several."""
    for spec, table in _known_tables():
        is_named = name in (*table["classes"].values(), *table.get("also", ()))
        if is_named and ("when" not in table or _evaluate_theirs(table["when"], own)):
            return spec, table
    return None


def _evaluate_theirs(text: str, own: Mapping[str, JsonValue]) -> JsonValue:
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


def _set_field(values: dict[str, JsonValue], name: str, value: JsonValue) -> None:
    """Sets a field by its dotted name, in nested configs."""
    first, _, rest = name.partition(".")
    if not rest:
        values[first] = value
        return
    inner = values.setdefault(first, {})
    if isinstance(inner, dict):
        _set_field(inner, rest, value)


def _inverted_fields(
    table: _Table, own: Mapping[str, JsonValue]
) -> Iterator[tuple[str, JsonValue]]:
    """Yields our fields that follow from KerasHub's, one by one."""
    for field, entry in table.items():
        value = own.get(field)
        if value is None:
            continue
        if isinstance(entry, Mapping):
            inner = value.get("config") if isinstance(value, Mapping) else None
            yield from _inverted_fields(entry["config"], inner if isinstance(inner, dict) else {})
        elif (found := _inverse(entry if isinstance(entry, str) else entry[0], value)) is not None:
            yield found


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


def _check_same(
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
                _check_same(inner[0], inner[1], str(found.get("class_name")), config)
        elif found is not None and found != value:
            raise ArchitectureError(
                f"this preset of {name} is no model of transformers",
                file=config.file,
                expected=f"{field}: {value!r}",
                found=repr(found),
                hint="load it with keras_hub",
            )


def write_keras_hub_config(
    spec: ArchitectureSpec, class_name: str, config: Config, dtype: str
) -> dict[str, JsonValue]:
    """Returns ``config.json`` of a preset.

    Args:
        spec: The architecture.
        class_name: PyTorch's class, which KerasHub has.
        config: Its config.
        dtype: The dtype of its weights.

    Raises:
        ArchitectureError: KerasHub's class computes something else than the config says.
    """
    table = spec.layouts["keras_hub"]["keras"]
    key = next(
        key
        for key, entry in spec.classes.items()
        if entry.name == class_name and key in table["classes"]
    )
    name = table["classes"][key]
    _check_requirements(table, name, config.with_defaults(spec.defaults))
    fields = dict(_fields(table["config"], _lookup(spec, config), dtype))
    return _layer(table["module"], name, {**_head_fields(name, dtype), **fields})


def snake_case(name: str) -> str:
    """Returns what Keras calls a layer or model of a class.

    >>> snake_case("ViTBackbone"), snake_case("SmolLM3Backbone")
    ('vi_t_backbone', 'smol_lm3_backbone')
    """
    apart = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", apart).lower()


def _layer(
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


def _head_fields(name: str, dtype: str) -> dict[str, JsonValue]:
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


def _check_requirements(table: _Table, name: str, config: Config) -> None:
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


def _lookup(spec: ArchitectureSpec, config: Config) -> expressions.Lookup:
    """Returns what resolves names in expressions over our fields: entries under ``[let]``, and the config with its defaults."""
    filled = config.with_defaults(spec.defaults)

    def lookup(name: str) -> JsonValue:
        if name in spec.let:
            value: JsonValue = expressions.evaluate(spec.let[name], lookup)
            return value
        found: JsonValue = filled.lookup(name)
        return found

    return lookup


def _fields(
    table: _Table, lookup: expressions.Lookup, dtype: str = ""
) -> Iterator[tuple[str, JsonValue]]:
    """Yields KerasHub's fields; one that the config lacks has KerasHub's default."""
    for field, entry in table.items():
        if isinstance(entry, Mapping):
            yield field, _nested_layer(entry, lookup, dtype)
        elif (value := _value(entry, lookup)) is not None or _NULL in (entry, entry[-1]):
            yield field, value


def _nested_layer(entry: _Table, lookup: expressions.Lookup, dtype: str) -> JsonValue:
    """Returns a layer that is a field of another; null where its condition fails."""
    if "when" in entry and not expressions.evaluate(entry["when"], lookup):
        return None
    name, is_plain = entry["class"], entry.get("plain", False)
    heads = {} if is_plain or entry.get("bare") else _head_fields(name, dtype)
    inner = {**heads, **dict(_fields(entry["config"], lookup, dtype))}
    return _layer(entry["module"], name, inner, "" if is_plain else REGISTERED_PREFIX)


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
