"""Records which config fields a model reads while it is built; no other field can change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from equipoise.convert.derive.probe.observations import ClassObservation, ConfigValues


@dataclass
class BuildCache:
    """Caches built classes by the values of the fields that they read; None for classes that could not be built."""

    known: dict[str, list[tuple[ConfigValues, ClassObservation | None]]] = field(
        default_factory=dict
    )

    def find(self, name: str, values: ConfigValues) -> tuple[bool, ClassObservation | None]:
        """Returns whether a class is cached for these values, and its observation."""
        for read, observation in self.known.get(name, ()):
            if all(values.get(key) == value for key, value in read.items()):
                return True, observation
        return False, None

    def add(self, name: str, read: ConfigValues, observation: ClassObservation | None) -> None:
        """Adds the observation of a class."""
        self.known.setdefault(name, []).append((read, observation))


def values_read(read: set[tuple[type, str]], config: Any, values: ConfigValues) -> ConfigValues:
    """Returns the values of the config fields among the attributes that were read."""
    return {key: values.get(key) for key in _read_field_names(read, config, "")}


def _read_field_names(read: set[tuple[type, str]], config: Any, prefix: str) -> Iterator[str]:
    names: Mapping[str, str] = type(config).attribute_map or {}
    for kind, name in read:
        if kind is type(config):
            yield prefix + names.get(name, name)
    for name, inner in nested_configs(config, config.to_dict()).items():
        yield from _read_field_names(read, inner, f"{prefix}{name}.")


def nested_configs(config: Any, values: ConfigValues) -> dict[str, Any]:
    """Returns the nested configs of a config by name. Reads no other field, since reads are recorded."""
    names = [name for name, value in values.items() if isinstance(value, dict)]
    found = {name: getattr(config, name, None) for name in names}
    return {name: inner for name, inner in found.items() if hasattr(inner, "to_dict")}


@contextmanager
def record_config_reads() -> Iterator[set[tuple[type, str]]]:
    """Records (config class, attribute) for every attribute read from a config."""
    from transformers import PretrainedConfig

    own = PretrainedConfig.__getattribute__
    found: set[tuple[type, str]] = set()

    def record_read(self: Any, name: str) -> Any:
        if not name.startswith("__"):
            found.add((type(self), name))
        return own(self, name)

    PretrainedConfig.__getattribute__ = record_read
    try:
        yield found
    finally:
        PretrainedConfig.__getattribute__ = own
