"""Naming dialects: how one framework spells a model, one module each, found by its name.

What a module holds (``tests/convert/layouts/test_contract.py`` runs over all):

``PREFIX: str``
    What the framework puts before a class name.
``view(expansion: Expansion) -> View``
    How this layout spells and stores the parameters of an expansion.
``decode(container: Container) -> dict[str, str]``
    The names in a file of this layout -> the names of the layout, for every container it comes in.
``encode(name: str, target: Target) -> str``
    The spelling of a layout's name in a container.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

from equipoise.convert.errors import SpecError
from equipoise.convert.ops import Op
from equipoise.convert.rule import Rule

LAYOUTS = ("pytorch", "tensorflow", "flax")
"""The layouts that always exist; packages add theirs by the entry point ``equipoise.layouts``."""


@dataclass(frozen=True)
class View:
    """An expansion as one layout stores it.

    Attributes:
        rules: From parameters to the names this layout stores.
        aliases: Other spellings it accepts when reading -> the name in ``rules``.
        alias_ops: Operations from the usual form to an alias's form, where they differ.
        shared: Parameters that it stores once with another, although they have a name of their own:
            parameter -> the parameter whose tensor it is.
        refused: Parameters that it has no place for -> the reason.
        left_out: Parameters that it does not store because they follow from the config -> the reason.
        ignored: Templates of names that it may carry without need -> the reason.
        groups: Stored name -> top-level layer in a Keras HDF5 file.
        also_in: Top-level layer -> stored names that it lists too.
        root: First component of the full variable names in a Keras HDF5 file.
        roots: Stored name -> first component, where it is not ``root``.
    """

    rules: tuple[Rule, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    also_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Leaf:
    """How a layout spells one leaf of one kind: its name and the way from PyTorch's axes."""

    name: str
    ops: tuple[Op, ...] = ()


def layout_module(name: str) -> ModuleType:
    """The module of a layout.

    Raises:
        SpecError: There is no layout of that name.
    """
    if name in LAYOUTS:
        return import_module(f"{__name__}.{name}")
    for entry in entry_points(group="equipoise.layouts"):
        if entry.name == name:
            module: ModuleType = entry.load()
            return module
    raise SpecError(f"there is no layout {name!r}", expected=list(layout_names()))


def layout_names() -> tuple[str, ...]:
    """All layouts, the packaged ones first."""
    others = sorted(entry.name for entry in entry_points(group="equipoise.layouts"))
    return (*LAYOUTS, *others)
