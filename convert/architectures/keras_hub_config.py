"""Translates configs between ``config.json`` of transformers and that of a KerasHub preset.

An architecture file has the table ``[keras_hub.keras]``:

    module = "keras_hub.src.models.bert.bert_backbone"     where the class is
    classes = { Model = "BertBackbone" }                   class of the architecture -> KerasHub's; the first is taken on reading
    also = ["LlamaBackbone"]                               other classes that are read as the first
    config = { num_layers = "num_hidden_layers" }          KerasHub's field -> ours, times or plus a number; or fields by preference
    requires = { hidden_act = "gelu" }                     what KerasHub computes whatever a config says
    absent = ["rope_scaling"]                              what KerasHub's class cannot do
    tokenizer = { class = ..., module = ..., files = ["vocab.txt"], lowercase = true }     and its files in transformers
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.core.errors import ArchitectureError, SpecError
from equipoise.convert.core.framework_types import JsonValue

REGISTERED_PREFIX = "keras_hub>"
_INVERSES = {ast.Mult: operator.floordiv, ast.Add: operator.sub, ast.Sub: operator.add}


def is_keras_hub_config(values: Mapping[str, JsonValue]) -> bool:
    """Whether the values are those of a KerasHub preset."""
    return str(values.get("registered_name", "")).startswith(REGISTERED_PREFIX)


def read_keras_hub_config(config: Config) -> Config:
    """Returns the config of a preset with the fields of transformers; as it is if no architecture file knows the class.

    Raises:
        ArchitectureError: A field is missing, or has a value that a backbone cannot have.
    """
    found = _spec_of_class(str(config.values.get("class_name")))
    own = config.values.get("config")
    if found is None or not isinstance(own, Mapping):
        return config
    spec, table = found
    (key, *_) = table["classes"]
    values: dict[str, JsonValue] = {
        "model_type": spec.model_type,
        "architectures": [spec.classes[key].name],
        **table.get("requires", {}),
    }
    for field, text in table["config"].items():
        if field in own and own[field] is not None:
            name, value = _inverse(_first(text), own[field], spec)
            values[name] = value
    return Config(values, config.file, edits=values)


def unknown_backbone(config: Config) -> ArchitectureError:
    """Returns the error for a preset of a class that no architecture file knows."""
    known = [
        name
        for model_type in spec_names()
        if (spec := load_spec(model_type)) is not None
        for name in spec.layouts["keras_hub"].get("keras", {}).get("classes", {}).values()
    ]
    return ArchitectureError(
        f"a KerasHub preset of {config.values.get('class_name')}, which is not read",
        file=config.file,
        expected=", ".join(dict.fromkeys(known)),
        hint="load it with keras_hub; some models have export_to_transformers()",
    )


def _spec_of_class(name: str) -> tuple[ArchitectureSpec, Mapping[str, Any]] | None:
    for model_type in spec_names():
        spec = load_spec(model_type)
        table = spec.layouts["keras_hub"].get("keras") if spec is not None else None
        if (
            spec is not None
            and table
            and name in (*table["classes"].values(), *table.get("also", ()))
        ):
            return spec, table
    return None


def _first(text: str | list[str]) -> str:
    return text if isinstance(text, str) else text[0]


def _inverse(text: str, value: JsonValue, spec: ArchitectureSpec) -> tuple[str, JsonValue]:
    """Returns the field of transformers that an expression is made of, and its value.

    >>> from equipoise.convert.architectures.spec import load_spec
    >>> _inverse("intermediate_size * 2", 40, load_spec("bert"))
    ('intermediate_size', 20)
    """
    match expressions.parse_expression(text):
        case ast.Name(id=name):
            return name, value
        case ast.BinOp(left=ast.Name(id=name), op=op, right=ast.Constant(value=number)) if (
            type(op) in _INVERSES
        ):
            if type(value) is not int:
                raise ArchitectureError("the config of the preset has no integer", expected=text)
            return name, _INVERSES[type(op)](value, number)
    raise SpecError(f"{text!r} cannot be inverted", file=spec.file)


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
    key = next(key for key, entry in spec.classes.items() if entry.name == class_name)
    name = table["classes"][key]
    _check_requirements(table, name, config)
    policy = {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": dtype},
        "registered_name": None,
    }
    return {
        "module": table["module"],
        "class_name": name,
        "config": {
            "name": table["module"].rpartition(".")[2],
            "trainable": True,
            "dtype": policy,
            **dict(_fields(table["config"], config.with_defaults(spec.defaults))),
        },
        "registered_name": f"{REGISTERED_PREFIX}{name}",
    }


def _check_requirements(table: Mapping[str, Any], name: str, config: Config) -> None:
    wanted = {
        **table.get("requires", {}),
        **dict.fromkeys(table.get("absent", ())),
    }
    for field, value in wanted.items():
        found = config.values.get(field, _rope_parameters(config).get(field, value))
        if found != value and not (value is None and not found):
            raise ArchitectureError(
                f"KerasHub's {name} does not compute what the config says",
                file=config.file,
                expected=f"{field}: {value!r}",
                found=repr(found),
            )


def _rope_parameters(config: Config) -> Mapping[str, JsonValue]:
    """Returns where transformers 5 keeps the fields of rotary embeddings."""
    values = config.values.get("rope_parameters")
    return values if isinstance(values, Mapping) else {}


def _fields(
    table: Mapping[str, str | list[str]], config: Config
) -> Iterator[tuple[str, JsonValue]]:
    """Yields KerasHub's fields; one that the config lacks has KerasHub's default."""
    for field, texts in table.items():
        for text in [texts] if isinstance(texts, str) else texts:
            try:
                value = expressions.evaluate(text, config.lookup)
            except ArchitectureError:
                continue
            if value is not None and value is not False:
                yield field, value
                break
