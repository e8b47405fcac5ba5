"""What an export target is: a file of ``targets/`` that defines ``TARGET``; its name is the file's, with hyphens.

A target's file is read in two places: here, for what it says of itself, and in a worker process by its path, where
:meth:`Target.make` runs with the framework. So it imports frameworks inside functions only, and of Equipoise
nothing but this package and ``convert``, whose own imports must be had in that process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

ENTRY_POINT_GROUP = "equipoise.targets"
"""The group under which other packages offer modules that define ``TARGET``."""


@dataclass(frozen=True)
class ExportableModel:
    """A model in a worker process that is to become a program.

    Attributes:
        module: Takes the tensors in their order and gives a dict of tensors.
        model: The model itself, for exporters that want one of transformers.
        tensors: Example inputs by name.
        axes: For each input the axes that vary, with the names that the program gives them.
        outputs: Names of the outputs in their order.
        kwargs: Plain values that the model's forward gets beside the tensors.
        options: ``opset``, ``optimize``, ``external`` and what else a target takes.
        empty: Names of axes that may have the size 0.
    """

    module: Any
    model: Any
    tensors: Mapping[str, Any]
    axes: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()


class Target(Protocol):
    """A kind of program.

    Attributes:
        name: As on the command line.
        program: How its file is called.
        extra: The extra of this package that brings what it needs.
        needs: Modules that it needs.
        ways: How it can be made, the first choice first -> in words.

    Where its programs have the sizes of the example for good it has ``fixed = True``, and where it makes weights of
    eight bits ``quantizes = True``.
    """

    name: str
    program: str
    extra: str
    needs: tuple[str, ...]
    ways: Mapping[str, str]

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Writes the program to ``path``; gives what there is to say about it (``opset`` ...)."""
        ...


@runtime_checkable
class SupportsKvCache(Protocol):
    """What a target has beside, if its programs can go on with a cache; see :mod:`equipoise.exporters.cache_graphs`."""

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """Writes what the graphs of a model become; weights that they have in common lie there once.

        Args:
            way: One of the target's ways.
            sources: By role: ``model``, or ``encoder``, ``decoder`` and ``decoder_with_past``.
            path: The program's file, which is that of the role ``model``; others lie beside it.

        Returns:
            By role its ``file``, ``graph_inputs``, ``graph_outputs``, and what else there is to say.
        """
        ...


def argument_name(name: str) -> str:
    """An input's name as a Python argument.

    >>> argument_name("past_key_values.0.key")
    'past_key_values_0_key'
    """
    return name.replace(".", "_")


def has_fixed_sizes(target: Target) -> bool:
    """Whether the programs of a target have the sizes of the example for good."""
    return bool(getattr(target, "fixed", False))


def target_names() -> list[str]:
    """All targets: ours, then those of other packages."""
    from equipoise.exporters import targets

    own = sorted(module.name.replace("_", "-") for module in iter_modules(targets.__path__))
    return own + sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))


def find_target(name: str) -> tuple[Target, str]:
    """A target, and the file that defines it.

    Raises:
        KeyError: There is none of that name.
    """
    module = _module(name)
    target: Target = module.TARGET
    return target, str(module.__file__)


def _module(name: str) -> ModuleType:
    from equipoise.exporters import targets

    if name in {module.name.replace("_", "-") for module in iter_modules(targets.__path__)}:
        return import_module(f"equipoise.exporters.targets.{name.replace('-', '_')}")
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        module: ModuleType = point.load()
        return module
    raise KeyError(name)
