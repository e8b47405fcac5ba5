"""Plug-ins: modules of a package, found by their file names, and entry points of other distributions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class PluginFolder:
    """The plug-ins of one kind.

    A plug-in's name is its file's name with hyphens for underscores. Files that begin with an underscore and
    ``base.py`` are not plug-ins. Look-ups are cached: a plug-in that is installed later needs a new process, or
    :meth:`refresh`.

    Attributes:
        package: Dotted name of the package that holds the modules.
        group: Entry-point group under which other distributions add plug-ins; empty for none. A module of the
            package wins over an entry point of the same name.
        attribute: What :meth:`load` takes from a module, e.g. ``TARGET``; empty for the module itself. An entry
            point's value is taken as it is where it is not a module.
        subfolders: Subpackages whose modules are plug-ins too.
    """

    package: str
    group: str = ""
    attribute: str = ""
    subfolders: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Returns the names of all plug-ins: those of the package, sorted, then those of entry points, sorted."""
        own = tuple(sorted(_modules(self)))
        return own + tuple(sorted(name for name in _entry_points(self.group) if name not in own))

    def is_packaged(self, name: str) -> bool:
        """Whether a plug-in is a module of the package."""
        return name in _modules(self)

    def module(self, name: str) -> ModuleType:
        """Imports the module that holds a plug-in.

        Raises:
            KeyError: There is no plug-in of that name.
        """
        own = _modules(self).get(name)
        if own is not None:
            return import_module(own)
        return import_module(_entry_points(self.group)[name].module)

    def load(self, name: str) -> Any:
        """Returns a plug-in: the attribute of its module, or the module where no attribute is asked for.

        Raises:
            KeyError: There is no plug-in of that name.
        """
        if name in _modules(self):
            found: Any = self.module(name)
        else:
            found = _entry_points(self.group)[name].load()
        is_module = isinstance(found, ModuleType)
        return getattr(found, self.attribute) if self.attribute and is_module else found

    def refresh(self) -> None:
        """Forgets what was found, e.g. after a package was installed."""
        _modules.cache_clear()
        _entry_points.cache_clear()


@cache
def _modules(folder: PluginFolder) -> dict[str, str]:
    """Returns plug-in name -> dotted name of its module, for the modules of the package and its subfolders."""
    return {
        module.rpartition(".")[2].replace("_", "-"): module
        for package in (folder.package, *(f"{folder.package}.{one}" for one in folder.subfolders))
        for module in _public_modules(package)
    }


def _public_modules(package: str) -> Iterator[str]:
    for module in iter_modules(import_module(package).__path__):
        if not module.ispkg and not module.name.startswith("_") and module.name != "base":
            yield f"{package}.{module.name}"


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a group by name."""
    return {point.name: point for point in entry_points(group=group)} if group else {}


def load_file(path: str | Path) -> ModuleType:
    """Imports a user's Python file, which need not be importable by a name.

    Raises:
        FileNotFoundError: There is no such file, or it is no Python file.
    """
    spec = spec_from_file_location(f"file_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the names in their annotations there
    spec.loader.exec_module(module)
    return module
