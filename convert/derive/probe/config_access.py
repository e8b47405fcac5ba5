"""Which fields of a config a model reads while it is built: no other can change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from equipoise.convert.derive.probe.observations import ClassObservation, ConfigValues


@dataclass
class BuildCache:
    """What classes became under which values of the fields that they read; None where they were refused."""

    known: dict[str, list[tuple[ConfigValues, ClassObservation | None]]] = field(
        default_factory=dict
    )

    def find(self, name: str, values: ConfigValues) -> tuple[bool, ClassObservation | None]:
        """Whether a class is known under these values, and what it is."""
        for read, seen in self.known.get(name, ()):
            if all(values.get(key) == value for key, value in read.items()):
                return True, seen
        return False, None

    def add(self, name: str, read: ConfigValues, seen: ClassObservation | None) -> None:
        """Remembers what a class became."""
        self.known.setdefault(name, []).append((read, seen))


def values_read(read: set[tuple[type, str]], config: Any, values: ConfigValues) -> ConfigValues:
    """The fields among attributes that were read, by the class of the config they were read from."""
    return {key: values.get(key) for key in _read_field_names(read, config, "")}


def _read_field_names(read: set[tuple[type, str]], config: Any, prefix: str) -> Iterator[str]:
    names: Mapping[str, str] = type(config).attribute_map or {}
    for kind, name in read:
        if kind is type(config):
            yield prefix + names.get(name, name)
    for name, inner in nested_configs(config, config.to_dict()).items():
        yield from _read_field_names(read, inner, f"{prefix}{name}.")


def nested_configs(config: Any, values: ConfigValues) -> dict[str, Any]:
    """The configs inside a config with these values, by name. Other fields are not touched: some may be read of a layer alone."""
    names = [name for name, value in values.items() if isinstance(value, dict)]
    found = {name: getattr(config, name, None) for name in names}
    return {name: inner for name, inner in found.items() if hasattr(inner, "to_dict")}


@contextmanager
def record_config_reads() -> Iterator[set[tuple[type, str]]]:
    """Notes (class of the config, attribute) of whatever is read of a config."""
    from transformers import PretrainedConfig

    own = PretrainedConfig.__getattribute__
    found: set[tuple[type, str]] = set()

    def noted(self: Any, name: str) -> Any:
        if not name.startswith("__"):
            found.add((type(self), name))
        return own(self, name)

    PretrainedConfig.__getattribute__ = noted
    try:
        yield found
    finally:
        PretrainedConfig.__getattribute__ = own
