"""Layouts: parameter names and axis orders of one framework, one module each, found by its file name.

A layout module defines (``tests/convert/layouts/test_contract.py`` tests all modules):

``view(expansion: Expansion) -> LayoutView``
    Returns how this layout names and stores the parameters of an expansion.
``decode(name: str, container: str, variant: str) -> str``
    Returns the layout's name for a name in a file of that container.
``encode(name: str, container: str, variant: str, view: LayoutView | None) -> str``
    Returns the name in a file of that container for a name of the layout.
``FORMATS: dict[str, Format]``
    The formats (container + layout) by name, the default first.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

from equipoise.convert.core.errors import SpecError
from equipoise.convert.core.plugins import PluginFolder

LAYOUTS = PluginFolder(__name__, group="equipoise.layouts")
COMPLETE_LAYOUTS = ("pytorch", "tensorflow", "flax")
"""The layouts that every architecture has, in the order in which they are tried and listed; others have some classes of some."""


def layout_module(name: str) -> ModuleType:
    """Returns the module of a layout.

    Raises:
        SpecError: There is no layout of that name.
    """
    try:
        return cast("ModuleType", LAYOUTS.load(name))
    except KeyError:
        raise SpecError(f"unknown layout {name!r}", expected=list(layout_names())) from None


def layout_names() -> tuple[str, ...]:
    """Returns the names of all layouts, the packaged ones first."""
    return (*COMPLETE_LAYOUTS, *(name for name in LAYOUTS.names() if name not in COMPLETE_LAYOUTS))


def is_plugin(name: str) -> bool:
    """Whether a layout comes from another package: it may have every class, since architecture files do not know it."""
    return name in LAYOUTS.names() and not LAYOUTS.is_packaged(name)


def may_hold_any_class(name: str) -> bool:
    """Whether every class is tried in a layout: the three frameworks' have nearly all, and those of other packages do not list theirs."""
    return name in COMPLETE_LAYOUTS or is_plugin(name)


def plugin_of_metadata(declared: str) -> str | None:
    """Returns the layout of another package whose files declare themselves so in their metadata (``format``); None if there is none."""
    plugins = (name for name in LAYOUTS.names() if is_plugin(name))
    return next((name for name in plugins if declared in _declarations(name)), None)


def _declarations(name: str) -> set[str]:
    formats = layout_module(name).FORMATS.values()
    return {one.metadata["format"] for one in formats if "format" in one.metadata}
