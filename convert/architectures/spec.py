"""Reads architecture files.

``docs/architecture-files.md`` describes the language. Its sections:

    model_type, name, prefix, extends     identity
    [defaults]                            config keys that a file may lack
    [repeat]                              number of values of an index, e.g. layer = "num_hidden_layers"
    [let]                                 names for expressions
    [parts]                               architectures of towers, with their nested config
    [modules.GROUP]                       module path template -> kind(sizes)
    [when]                                condition of a whole group
    [classes]                             class -> groups
    [ties]                                parameter -> the parameter that it is tied to
    [computed]                            parameter -> the generator that computes it
    [absent]                              parameter that old files lack -> why zeros are equivalent
    [pytorch] [tensorflow] [flax]         exceptions of that layout
    [google]                              the names of Google's own code; without it there are none
    [t5x] [t5x-scanned]                   the names of T5X's trees; without them there are none
    [keras_hub]                           names and config in KerasHub; without it the layout lacks the architecture
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from equipoise.convert.architectures import name_templates
from equipoise.convert.architectures.spec_files import ARCHS_FOLDER, spec_names
from equipoise.convert.core.errors import SpecError

CLASS_PREFIXES = {
    "pytorch": "",
    "tensorflow": "TF",
    "flax": "Flax",
    "google": "",
    "t5x": "",
    "t5x-scanned": "",
}
"""Layout -> what its classes' names begin with."""

LAYOUT_SECTIONS = (*CLASS_PREFIXES, "keras_hub")
"""Sections that belong to a layout."""

OPTIONAL_LAYOUTS = ("google", "t5x", "t5x-scanned")
"""Layouts that only architectures with a section of theirs have, whose ``classes`` lists the classes."""

SECTIONS = frozenset((
    "model_type", "name", "prefix", "extends", "defaults", "repeat", "let", "parts", "modules",
    "when", "classes", "ties", "computed", "absent", *LAYOUT_SECTIONS,
))  # fmt: skip


@dataclass(frozen=True)
class ModuleSpec:
    """One line under ``[modules]``.

    Attributes:
        path: Template of the module's path, e.g. ``bert.encoder.layer.{layer}.output.dense``.
        kind: Expression of the kind with its sizes, e.g. ``linear(intermediate_size, hidden_size)``.
        when: Condition under which it exists, or None.
    """

    path: str
    kind: str
    when: str | None = None


@dataclass(frozen=True)
class TieSpec:
    """One line under ``[ties]``: a parameter that is tied to another.

    Attributes:
        to: Template of the parameter that it is tied to.
        when: Condition under which PyTorch shares the two and stores one.
        one_tensor: Whether every framework but transformers 5 keeps one tensor for both even if the
            condition fails; the two must be equal then.
    """

    to: str
    when: str | None = None
    one_tensor: bool = False


@dataclass(frozen=True)
class ClassSpec:
    """One line under ``[classes]``.

    Attributes:
        key: Its key in the file, e.g. ``ForMaskedLM``.
        name: PyTorch's class.
        groups: Names of its module groups.
        base: Whether it is the base class, whose names lack the prefix in PyTorch and Flax.
        names: Layout -> class name, for the layouts that have the class.
    """

    key: str
    name: str
    groups: tuple[str, ...]
    base: bool
    names: Mapping[str, str]


@dataclass(frozen=True)
class PartSpec:
    """A nested model with its own config, e.g. the text tower of CLIP.

    Attributes:
        config: Name of the nested config.
        spec: Its architecture; None takes the one of the nested config's ``model_type``.
        under: Path at which a whole class is mounted; None for a tower, whose groups keep their own paths.
        classes: Keys of the mounted class; the first that the architecture has is taken.
    """

    config: str
    spec: str | None = None
    under: str | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArchitectureSpec:
    """A parsed architecture file; the module's docstring lists the sections."""

    model_type: str
    file: Path
    prefix: str
    defaults: Mapping[str, Any]
    repeat: Mapping[str, str]
    let: Mapping[str, str]
    parts: Mapping[str, PartSpec]
    modules: Mapping[str, tuple[ModuleSpec, ...]]
    when: Mapping[str, str]
    classes: Mapping[str, ClassSpec]
    ties: Mapping[str, TieSpec]
    computed: Mapping[str, Any]
    absent: Mapping[str, str]
    layouts: Mapping[str, Mapping[str, Any]]

    def classes_of(self, layout: str) -> list[ClassSpec]:
        """Returns the classes in the order in which a checkpoint of a layout is compared with them.

        An optional layout lists its classes; to others every class is a candidate, so that one that a framework lacks is named.
        """
        if layout not in OPTIONAL_LAYOUTS:
            return list(self.classes.values())
        keys = self.layouts[layout].get("classes", ())
        return [self.classes[key] for key in keys if key in self.classes]

    def class_by_name(self, name: str) -> ClassSpec | None:
        """Returns the class with this name in any layout, or None."""
        for entry in self.classes.values():
            plain = {one.removeprefix("TF").removeprefix("Flax") for one in entry.names.values()}
            if name == entry.name or name in entry.names.values() or name in plain:
                return entry
        return None


@lru_cache(maxsize=256)
def load_spec(model_type: str) -> ArchitectureSpec | None:
    """Reads the architecture file of a model type; returns None if there is none."""
    if model_type not in spec_names():
        return None
    return read_spec(ARCHS_FOLDER / f"{model_type}.toml")


def read_spec(path: Path) -> ArchitectureSpec:
    """Reads an architecture file.

    Raises:
        SpecError: The file is not valid.
    """
    return _parse_spec(_read_tables(path), path)


def _read_tables(path: Path, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the file's tables, merged over those of the file that it extends."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", file=path) from error
    unknown = sorted(set(values) - SECTIONS)
    if unknown:
        raise SpecError(f"unknown section {unknown[0]!r}", file=path, expected=sorted(SECTIONS))
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str) or not re.fullmatch(r"\w[\w-]*", base) or base in extending:
        expected = "the name of another file in the same folder"
        raise SpecError(
            "it does not extend another file", file=path, expected=expected, found=repr(base)
        )
    return _merge_tables(_read_tables(path.with_name(f"{base}.toml"), (*extending, base)), values)


def _merge_tables(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        deep = isinstance(value, Mapping) and isinstance(old, dict)
        merged[key] = _merge_tables(old, value) if deep and isinstance(old, dict) else value
    return merged


def _check_indices(values: Mapping[str, Any], path: Path) -> None:
    """Checks that ``[repeat]`` has every index that a module path uses."""
    names = [name for lines in values.get("modules", {}).values() for name in lines]
    for name in names:
        for index in name_templates.index_names(name):
            if index not in values.get("repeat", {}):
                raise SpecError(
                    f"{name!r} uses an index that is not under [repeat]",
                    file=path,
                    expected=f"a count for {index!r}",
                )


def _parse_spec(values: dict[str, Any], path: Path) -> ArchitectureSpec:
    if not isinstance(values["model_type"], str):
        found = repr(values["model_type"])
        raise SpecError("model_type is not a string", file=path, expected="a name", found=found)
    if not values.get("classes"):
        raise SpecError("there are no classes", file=path, expected="a table [classes]")
    _check_indices(values, path)
    return ArchitectureSpec(
        model_type=values["model_type"],
        file=path,
        prefix=values.get("prefix", ""),
        defaults=values.get("defaults", {}),
        repeat=values.get("repeat", {}),
        let=values.get("let", {}),
        parts={key: _parse_part(value) for key, value in values.get("parts", {}).items()},
        modules={
            group: tuple(_parse_modules(lines))
            for group, lines in values.get("modules", {}).items()
        },
        when=values.get("when", {}),
        classes=dict(_parse_classes(values, path)),
        ties={key: _parse_tie(value) for key, value in values.get("ties", {}).items()},
        computed=values.get("computed", {}),
        absent=values.get("absent", {}),
        layouts={name: values.get(name) or {} for name in LAYOUT_SECTIONS},
    )


def _parse_modules(lines: Mapping[str, Any]) -> Iterator[ModuleSpec]:
    for path, value in lines.items():
        if isinstance(value, str):
            yield ModuleSpec(path, value)
        elif value is not False:  # removes a module of the extended file
            yield ModuleSpec(path, value["kind"], value["when"])


def _parse_part(value: Mapping[str, Any]) -> PartSpec:
    return PartSpec(**{**value, "classes": tuple(value.get("classes", ()))})


def _parse_tie(value: Any) -> TieSpec:
    return TieSpec(value) if isinstance(value, str) else TieSpec(**value)


def _parse_classes(values: dict[str, Any], path: Path) -> Iterator[tuple[str, ClassSpec]]:
    stem = values.get("name", "")
    listed = {name: values[name]["classes"] for name in OPTIONAL_LAYOUTS if values.get(name)}
    groups = {*values.get("modules", {}), *values.get("parts", {})}
    hub = (values.get("keras_hub") or {}).get("keras", {})
    tasks = {suffix: task["class"] for suffix, task in hub.get("tasks", {}).items()}
    hub_classes = {**tasks, **hub.get("classes", {})}
    for suffix, line in values.get("classes", {}).items():
        if line is False:  # removes a class of the extended file
            continue
        entry: dict[str, Any] = {"groups": line} if isinstance(line, list) else line
        # A group "text:base" is the group `base` of the part `text`.
        for group in entry["groups"]:
            if group.partition(":")[0] not in groups:
                raise SpecError(f"class {suffix!r} names an unknown group {group!r}", file=path)
        names = {
            layout: prefix
            + stem
            + (entry[layout] if isinstance(entry.get(layout), str) else suffix)
            for layout, prefix in CLASS_PREFIXES.items()
            if (
                suffix in listed.get(layout, ())
                if layout in OPTIONAL_LAYOUTS
                else entry.get(layout, True)
            )
        }
        if hub_class := hub_classes.get(suffix):
            names["keras-hub"] = hub_class
        name = names.get("pytorch", stem + suffix)
        base = bool(entry.get("base", False))
        yield suffix, ClassSpec(suffix, name, tuple(entry["groups"]), base, names)
