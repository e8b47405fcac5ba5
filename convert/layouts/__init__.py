"""Naming dialects: how one framework spells a model, one module each, found by its name.

What a module holds (``tests/convert/layouts/test_contract.py`` runs over all):

``view(expansion: Expansion) -> View``
    How this layout spells and stores the parameters of an expansion.
``decode(name: str, container: str, variant: str) -> str``
    The layout's name for a name in a file of that container.
``encode(name: str, container: str, variant: str, view: View | None) -> str``
    The spelling of the layout's name in a file of that container.
``FORMATS: dict[str, Format]``
    The formats (container + layout) that exist, by name, the usual one first.
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
        rules: From parameters to the names this layout stores. A rule for a parameter in ``shared`` may be
            there: its name is accepted when reading and not needed.
        aliases: Other spellings it accepts when reading -> the name in ``rules``.
        shared: Parameters that it stores once with another, although they have a name of their own:
            parameter -> the parameter whose tensor it is.
        repeated: Parameters that it writes although they repeat another, and that may be missing in files:
            parameter -> the parameter whose tensor serves then.
        refused: Parameters that it has no place for -> the reason.
        left_out: Parameters that it does not store because they follow from the config -> the reason.
        dtypes: Parameters with a dtype of their own here -> the dtype.
        ignored: Templates of names that it may carry without need -> the reason.
        groups: Stored name -> top-level layer in a Keras HDF5 file.
        also_in: Top-level layer -> stored names that it lists too.
        wrong: Why the class here answers otherwise than PyTorch's from the same weights; empty when it does not.
        root: First component of the full variable names in a Keras HDF5 file.
        roots: Stored name -> its root where it is another; empty for none.
    """

    rules: tuple[Rule, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    also_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wrong: str = ""
    root: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A container that a layout comes in.

    Attributes:
        name: e.g. ``tensorflow-h5``.
        container: Module of :mod:`equipoise.convert.formats`.
        filename: The file that transformers looks for, e.g. ``tf_model.h5``.
        metadata: What the file says about itself.
        writable: Whether we write it.
    """

    name: str
    container: str
    filename: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    writable: bool = True


@dataclass(frozen=True)
class Leaf:
    """How a layout spells one leaf of one kind: its name, the way from PyTorch's axes, a dtype of its own."""

    name: str
    ops: tuple[Op, ...] = ()
    dtype: str | None = None


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
