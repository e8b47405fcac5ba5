"""The protocol of export targets. A target is a module of ``targets/`` that defines ``TARGET``, named like the file.

The module is imported in two processes: here, for what it says about itself, and in a worker process, where
:meth:`Target.make` runs with the framework. So it imports frameworks inside functions only, and of Equipoise nothing
but ``exporters`` and ``convert``: their base dependencies are all that the worker's environment must have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from equipoise.convert.core.framework_types import TorchModel, TorchModule, TorchTensor
from equipoise.convert.core.plugins import PluginFolder, load_file

TARGETS = PluginFolder("equipoise.exporters.targets", "equipoise.targets", "TARGET")
"""The built-in targets, and modules that other packages offer in the entry-point group ``equipoise.targets``."""

INT8_DYNAMIC = "int8-dynamic"
"""Value of the option ``quantize``: int8 weights, activations quantized while the program runs."""


@dataclass(frozen=True)
class ExportableModel:
    """A model in a worker process that is about to be exported.

    Attributes:
        module: Takes the tensors in their order and returns a dict of tensors.
        model: The model itself, for exporters that need a class of transformers.
        tensors: Example inputs by name.
        axes: The dynamic axes of each input, with their names in the program.
        outputs: Names of the outputs in their order.
        kwargs: Further keyword arguments of the model's forward.
        options: ``opset``, ``optimize``, ``external`` and whatever else a target accepts.
        empty: Names of axes that may have size 0.
    """

    module: TorchModule
    model: TorchModel
    tensors: Mapping[str, TorchTensor]
    axes: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()


class Target(Protocol):
    """A program format that models are exported to.

    Attributes:
        name: Name on the command line.
        program: File name of the program in the artifact.
        extra: The extra of this package that installs what the target needs; several are joined by commas.
        needs: Modules that must be importable.
        ways: Export strategies in the order in which they are tried -> their descriptions.

    A target whose programs only accept the sizes of the example has ``fixed = True``; one that can quantize weights
    to int8 has ``quantizes = True``.
    """

    name: str
    program: str
    extra: str
    needs: tuple[str, ...]
    ways: Mapping[str, str]

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Writes the program to ``path`` with one strategy.

        Returns:
            A report for artifact.json: ``opset``, ``graph_inputs``, ``graph_outputs``, ``notes``; all optional.
        """
        ...


@runtime_checkable
class SupportsKvCache(Protocol):
    """A target that also exports graphs with a KV cache; see :mod:`equipoise.exporters.cache_graphs`."""

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """Writes the graphs of a model; weights that several graphs use are stored once.

        Args:
            way: One of the target's strategies.
            sources: By role: ``model``, or ``encoder``, ``decoder`` and ``decoder_with_past``.
            path: The file of the role ``model``; the files of other roles go into the same folder.

        Returns:
            A report by role: its ``file``, ``graph_inputs``, ``graph_outputs``, and optionally ``opset`` and ``notes``.
        """
        ...


def argument_name(name: str) -> str:
    """Returns the Python argument for the name of an input.

    >>> argument_name("past_key_values.0.key")
    'past_key_values_0_key'
    """
    return name.replace(".", "_")


def has_fixed_sizes(target: Target) -> bool:
    """Checks whether programs of a target only accept the sizes of the example."""
    return bool(getattr(target, "fixed", False))


def target_names() -> list[str]:
    """Lists all targets: the built-in ones, then those of other packages."""
    return list(TARGETS.names())


def find_target(name: str) -> Target:
    """Returns a target by its name, or by the path of a file that defines it.

    Raises:
        KeyError: There is no target of that name.
    """
    target: Target = load_file(name).TARGET if name.endswith(".py") else TARGETS.load(name)
    return target


def target_reference(name: str) -> str:
    """Returns what :func:`find_target` takes in a worker process: another package's target goes by its file.

    Raises:
        KeyError: There is no target of that name.
    """
    if name.endswith(".py"):
        return str(Path(name).resolve())
    module = TARGETS.module(name)
    is_own = module.__name__.startswith(f"{TARGETS.package}.")
    return name if is_own else str(module.__file__)
