"""The config of a model: the values of ``config.json`` over the defaults of an architecture file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.core.json_values import read_json


@dataclass(frozen=True)
class Config:
    """A config's values.

    Attributes:
        values: The values of ``config.json``, corrected where the tensors say otherwise.
        file: The file, for messages.
        defaults: Defaults of the config class by dotted name, from the architecture file.
        edits: The values that the file lacks or has otherwise; a conversion writes them into the new ``config.json``.
            None marks a field that was taken out.
    """

    values: Mapping[str, Any]
    file: Path | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    edits: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Config:
        """Reads a ``config.json``.

        Raises:
            CheckpointError: It cannot be read, or is not a JSON object.
        """
        return cls(read_json(path), path)

    def with_defaults(self, defaults: Mapping[str, Any]) -> Config:
        """Returns the same values with other defaults."""
        return replace(self, defaults=defaults)

    def with_edits(self, edits: Mapping[str, Any]) -> Config:
        """Returns the config with corrected values."""
        return replace(self, values={**self.values, **edits}, edits={**self.edits, **edits})

    def without(self, field: str) -> Config:
        """Returns the config without a field, which a conversion does not write into the new ``config.json`` either."""
        values = {name: value for name, value in self.values.items() if name != field}
        return replace(self, values=values, edits={**self.edits, field: None})

    def part(self, name: str) -> Config:
        """Returns a nested config, e.g. ``text_config``; a missing one is empty, so that defaults apply."""
        if not name:
            return self
        values = self.values.get(name) or {}
        if not isinstance(values, Mapping):
            raise ArchitectureError("not an object", file=self.file, tensor=name, found=values)
        return Config(values, self.file)

    def lookup(self, name: str) -> Any:
        """Returns the value of a dotted name.

        Raises:
            ArchitectureError: Neither the config nor the defaults have it.
        """
        value: Any = self.values
        for part in name.split("."):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            else:
                return self._default(name)
        return value

    def _default(self, name: str) -> Any:
        if name in self.defaults:
            return self.defaults[name]
        if name == "num_labels":
            labels = self.values.get("id2label")
            return len(labels) if isinstance(labels, Mapping) else 2
        raise ArchitectureError(
            f"the config has no {name!r}",
            file=self.file,
            hint="the config belongs to another architecture, or is incomplete; give the right one with --config",
        )

    @property
    def model_type(self) -> str | None:
        """``model_type``, if it is a string."""
        value = self.values.get("model_type")
        return value if isinstance(value, str) else None

    @property
    def architectures(self) -> tuple[str, ...]:
        """Class names in ``architectures``, without the prefix of the framework (TF, Flax)."""
        names = self.values.get("architectures") or []
        texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        return tuple(name.removeprefix("TF").removeprefix("Flax") for name in texts)
