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
