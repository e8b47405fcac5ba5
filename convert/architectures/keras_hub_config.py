"""Translates configs between ``config.json`` of transformers and that of a KerasHub preset.

An architecture file has the table ``[keras_hub.keras]``:

    module = "keras_hub.src.models.bert.bert_backbone"     where the class is
    classes = { Model = "BertBackbone" }                   class of the architecture -> KerasHub's; the first is taken on reading
    also = ["LlamaBackbone"]                               other classes that are read as the first
    when = "use_post_ffw_norm"                             over KerasHub's config: which architecture a class is that several have
    config = { num_layers = "num_hidden_layers" }          KerasHub's field -> an expression over ours, "None" for null; or several by preference; or a
                                                           layer of its own: { class = ..., module = ..., config = { ... } }, plain = true if Keras
                                                           does not know its class, bare = true if it has its own fields alone,
                                                           when = ... if there is none where that fails; or several, of which the first holds
    read = { image_size = "image_shape[0]" }               our field -> an expression over KerasHub's config, where it does not follow
    requires = { hidden_act = "gelu" }                     what KerasHub computes whatever a config says
    absent = ["rope_scaling"]                              what KerasHub's class cannot do
    tasks.ForMaskedLM = { class = ..., module = ..., config = { ... }, preprocessor = ... }   a class with a head: task.json; its weights have
                                                           ``task/`` before their names
    tokenizer = { class = ..., module = ..., files = ["vocab.txt"], lowercase = true }     and its files in transformers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.keras_hub_checks import check_backbone, check_ranges
from equipoise.convert.architectures.keras_hub_fields import (
    Table,
    check_requirements,
    check_same,
    describe_layer,
    evaluate_theirs,
    field_lookup,
    head_fields,
    invert_fields,
    make_fields,
    set_field,
    snake_case,
)
from equipoise.convert.architectures.keras_hub_tables import (
    key_of_class,
    known_tables,
    task_of_class,
)
from equipoise.convert.architectures.spec import ArchitectureSpec
from equipoise.convert.core.framework_types import JsonValue

_TASK = "task.json"
_MAX_LABELS = 1_000_000
"""A head with more labels is none: their names are made."""


def read_keras_hub_config(config: Config, task: Mapping[str, JsonValue] | None = None) -> Config:
    """Returns the config of a preset with the fields of transformers; as it is if no architecture file knows the class.

    Args:
        config: ``config.json`` of the preset.
        task: ``task.json`` beside it, if there is one; a task that no class of transformers is leaves the backbone.

    Raises:
        ArchitectureError: A field has a value that a backbone cannot have, or that transformers' class cannot; or the two files contradict
            each other.
    """
    own = config.values.get("config")
    name = str(config.values.get("class_name"))
    found = _spec_of_class(name, own) if isinstance(own, Mapping) else None
    if found is None or not isinstance(own, Mapping):
        return config
    spec, table = found
    task_file = config.file.with_name(_TASK) if config.file is not None else None
    check_ranges(own, table["config"], config.file)
    if task and config.file is not None and task_file is not None:
        check_backbone(task, config.values, task_file, config.file)
    head = _find_task(table, task or {})
    key = head[0] if head else next(iter(table["classes"]))
    values: dict[str, JsonValue] = {
        "model_type": spec.model_type,
        "architectures": [spec.classes[key].name],
    }
    if head:
        _, entry, theirs = head
        check_ranges(theirs, entry.get("config", {}), task_file)
        _read_fields(values, entry, theirs, spec)
        _name_labels(values)
    # What the backbone says wins: a task that says otherwise is refused.
    _read_fields(values, table, own, spec)
    read = Config(values, config.file, edits=values)
    lookup = field_lookup(spec, read)
    check_same(dict(make_fields(table["config"], lookup)), own, name, config)
    if head:
        _, entry, theirs = head
        made = dict(make_fields(entry.get("config", {}), lookup))
        check_same(made, theirs, entry["class"], replace(config, file=task_file))
    return read


def _find_task(
    table: Table, task: Mapping[str, JsonValue]
) -> tuple[str, Table, Mapping[str, JsonValue]] | None:
    """Returns the class that a task is, what its file says of it, and its config; None for a task that is none."""
    own = task.get("config")
    for key, entry in table.get("tasks", {}).items():
        if entry["class"] == task.get("class_name") and isinstance(own, Mapping):
            return key, entry, own
    return None


def _read_fields(
    values: dict[str, JsonValue],
    table: Table,
    own: Mapping[str, JsonValue],
    spec: ArchitectureSpec,
) -> None:
    """Sets the fields of transformers that follow from a config of KerasHub."""
    for field, value in table.get("requires", {}).items():
        set_field(values, field, value)
    for field, value in invert_fields(table.get("config", {}), own):
        if field not in spec.let:
            set_field(values, field, value)
    for field, text in table.get("read", {}).items():
        if (value := evaluate_theirs(text, own)) is not None:
            set_field(values, field, value)


def _name_labels(values: dict[str, JsonValue]) -> None:
    """Replaces a number of labels by names, as transformers stores them; one that is no such number stays, and fits no tensor."""
    count = values.get("num_labels")
    if type(count) is int and 0 < count <= _MAX_LABELS:
        del values["num_labels"]
        names = [f"LABEL_{number}" for number in range(count)]
        values["id2label"] = {str(number): name for number, name in enumerate(names)}
        values["label2id"] = {name: number for number, name in enumerate(names)}


def _spec_of_class(
    name: str, own: Mapping[str, JsonValue]
) -> tuple[ArchitectureSpec, Table] | None:
    """Returns the architecture of a class of KerasHub, which may have one class for several."""
    for spec, table in known_tables():
        is_named = name in (*table["classes"].values(), *table.get("also", ()))
        if is_named and ("when" not in table or evaluate_theirs(table["when"], own)):
            return spec, table
    return None


def write_keras_hub_config(
    spec: ArchitectureSpec, class_name: str, config: Config, dtype: str
) -> dict[str, JsonValue]:
    """Returns ``config.json`` of a preset.

    Args:
        spec: The architecture.
        class_name: PyTorch's class, which KerasHub has as a backbone or a task.
        config: Its config.
        dtype: The dtype of its weights.

    Raises:
        ArchitectureError: KerasHub's class computes something else than the config says.
    """
    table = spec.layouts["keras_hub"]["keras"]
    names = table["classes"]
    name = names.get(key_of_class(spec, class_name), next(iter(names.values())))
    check_requirements(table, name, config.with_defaults(spec.defaults))
    fields = dict(make_fields(table["config"], field_lookup(spec, config), dtype))
    return describe_layer(table["module"], name, {**head_fields(name, dtype), **fields})


def write_keras_hub_task(
    spec: ArchitectureSpec, class_name: str, config: Config, dtype: str
) -> dict[str, JsonValue]:
    """Returns ``task.json`` of a preset, without a preprocessor; empty for a class that is no task, or whose weights are all in the backbone.

    The arguments and errors are those of :func:`write_keras_hub_config`.
    """
    entry = task_of_class(spec, class_name)
    if not entry:
        return {}
    name = entry["class"]
    check_requirements(entry, name, config.with_defaults(spec.defaults))
    fields = dict(make_fields(entry.get("config", {}), field_lookup(spec, config), dtype))
    backbone = write_keras_hub_config(spec, class_name, config, dtype)
    own = {"backbone": backbone, "preprocessor": None, "name": snake_case(name), **fields}
    return describe_layer(entry["module"], name, own)
