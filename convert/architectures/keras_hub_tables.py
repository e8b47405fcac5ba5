"""The tables ``[keras_hub.keras]`` of the architectures; :mod:`keras_hub_config` says what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.core.errors import ArchitectureError


def unknown_backbone(config: Config) -> ArchitectureError:
    """Returns the error for a preset of a class that no architecture file knows."""
    known = [name for _, table in known_tables() for name in table["classes"].values()]
    return ArchitectureError(
        f"a KerasHub preset of {config.values.get('class_name')}, which is not read",
        file=config.file,
        expected=", ".join(dict.fromkeys(known)),
        hint="load it with keras_hub; some models have export_to_transformers()",
    )


def known_tables() -> Iterator[tuple[ArchitectureSpec, Mapping[str, Any]]]:
    """Yields the architectures that KerasHub has, with their tables."""
    for model_type in spec_names():
        spec = load_spec(model_type)
        if spec is not None and (table := spec.layouts["keras_hub"].get("keras")):
            yield spec, table


def task_of_class(spec: ArchitectureSpec, class_name: str) -> Mapping[str, Any]:
    """Returns what an architecture says of the task that a class of PyTorch is in KerasHub; nothing if it is none."""
    table = spec.layouts["keras_hub"].get("keras", {})
    entry: Mapping[str, Any] = table.get("tasks", {}).get(key_of_class(spec, class_name), {})
    return entry


def key_of_class(spec: ArchitectureSpec, class_name: str) -> str:
    """Returns the key of the class of a name that KerasHub has; several may have one name."""
    keys = (key for key, entry in spec.classes.items() if entry.name == class_name)
    return next(key for key in keys if "keras-hub" in spec.classes[key].names)
