"""What a backend is: a file of this folder with a function ``load``.

``load(folder, class_name, options)`` returns a :class:`Session`. Options, all with defaults:

    dtype       float64 (PyTorch: of the arithmetic), float32, float16, bfloat16; None keeps the file's
    device      cpu, cuda, cuda:1
    threads     how many the framework may use within an operation; 0 leaves it alone
    tf32        whether matrix products of float32 may be rounded to TensorFloat-32 (default: no)
    jitter      a seed: moves every weight of PyTorch's model to a neighbouring number of its precision
    from_pt     TensorFlow and Flax classes read a PyTorch checkpoint themselves
    provider    of ONNX Runtime, e.g. TensorrtExecutionProvider
    optimize    whether ONNX Runtime may rewrite the graph (default: yes)
    outputs     names of a program's outputs where its file does not hold them
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from equipoise.validators.runtime.worker import to_numpy

Array = np.ndarray[Any, Any]
Options: TypeAlias = dict[str, Any]
"""Options of ``load``, see above."""
Kwargs: TypeAlias = dict[str, Any]
"""Further keyword arguments of the model's forward."""
Facts: TypeAlias = dict[str, Any]
"""What a model really runs on: device, precision, threads, switches."""
Outputs: TypeAlias = Any
"""Outputs as the framework nests them."""
CacheState: TypeAlias = Any
"""A KV cache, and whatever else the next step needs."""
ModuleRecord: TypeAlias = dict[str, Any]
"""One module's forward pass; see :func:`module_record`."""


class Session(Protocol):
    """A loaded model in this process.

    Attributes:
        info: ``missing_keys``, ``unexpected_keys``, ``mismatched_keys`` of the loading.
        accepts: Names of the inputs that it takes.
        caches: Whether :meth:`step` works.
    """

    info: Mapping[str, list[str]]
    accepts: frozenset[str]
    caches: bool

    def about(self) -> Facts:
        """What it really runs on: device, precision, threads, switches."""
        ...

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """One forward pass; the outputs as the framework nests them."""
        ...

    def step(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState,
        order: list[int] | None,
    ) -> tuple[Outputs, CacheState]:
        """A forward pass with a cache: the outputs, and the cache to go on from."""
        ...

    def capture(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState = None
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """A forward pass that reports every module; see :func:`module_record`."""
        ...

    def names(self) -> dict[str, list[int]]:
        """Shape of every weight by the framework's own name."""
        ...

    def renamed(self) -> dict[str, str]:
        """The file's names of weights that the model calls otherwise, with the model's."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has done what it was given."""
        ...

    def peak_bytes(self) -> int:
        """The most memory that the process, or its device, has held."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class BaseSession:
    """What sessions have in common where a framework gives no cause to differ."""

    info: Mapping[str, list[str]] = {}
    accepts: frozenset[str] = frozenset()
    caches = False

    def step(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState,
        order: list[int] | None,
    ) -> tuple[Outputs, CacheState]:
        """There is no cache."""
        raise NotImplementedError(f"{type(self).__name__} keeps no cache")

    def capture(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState = None
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """Nothing can be seen inside."""
        raise NotImplementedError(f"{type(self).__name__} does not show its modules")

    def names(self) -> dict[str, list[int]]:
        """No weights are known by name."""
        return {}

    def renamed(self) -> dict[str, str]:
        """Nothing is called otherwise than in the file."""
        return {}

    def synchronize(self) -> None:
        """The results are arrays already."""

    def peak_bytes(self) -> int:
        """The largest resident set of the process."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def close(self) -> None:
        """Nothing is held beyond the object."""


def module_record(
    path: str,
    kind: str,
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    weights: list[str] | None = None,
) -> ModuleRecord:
    """One module's pass.

    Args:
        path: The module as the backend names it.
        kind: Its type.
        inputs: Its arrays by name or position.
        outputs: What it returned, flattened; a single tensor is called ``output``.
        weights: The names of the weights in and beneath it; None where the path is PyTorch's own.
    """
    return {"path": path, "kind": kind, "weights": weights, "inputs": inputs, "outputs": outputs}


def name_outputs(flat: dict[str, Array]) -> dict[str, Array]:
    """Flattened outputs; the one without a name is called ``output``."""
    return {name or "output": value for name, value in flat.items()}


@dataclass(frozen=True)
class GraphNode:
    """An operation of a program's graph.

    Attributes:
        path: The module that it came from, dotted.
        kind: That module's type, where the graph knows it.
        value: What it computes.
        inputs: What it computes it from.
    """

    path: str
    kind: str
    value: Any
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class ModuleSpan:
    """A module's part of a graph: what goes in first, and what comes out last."""

    path: str
    kind: str
    value: Any
    given: Any


def module_spans(nodes: list[GraphNode]) -> list[ModuleSpan]:
    """The modules of a graph, in the order in which they end.

    >>> graph = [Node("a", "", 1, ()), Node("a.b", "", 2, (1,)), Node("a.b", "", 3, (2,)), Node("a", "", 4, (3,))]
    >>> [(span.path, span.value, span.given) for span in spans(graph)]
    [('a.b', 3, 1), ('a', 4, None)]
    """
    last: dict[str, int] = {}
    given: dict[str, Any] = {}
    home = {node.value: node.path for node in nodes}
    for index, node in enumerate(nodes):
        parts = node.path.split(".") if node.path else []
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            last[path] = index
            outside = [one for one in node.inputs if one in home and not _within(home[one], path)]
            if outside:
                given.setdefault(path, outside[0])
    # Of modules that end with the same node the inner one ends first.
    ends = sorted((index, -path.count("."), path) for path, index in last.items())
    kinds = {node.path: node.kind for node in nodes}
    return [
        ModuleSpan(path, kinds.get(path, ""), nodes[index].value, given.get(path))
        for index, _, path in ends
    ]


def _within(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")


def module_records(found: list[ModuleSpan], values: Mapping[Any, Any]) -> list[ModuleRecord]:
    """Records of modules from the values of a graph's nodes; what is not floating is passed over."""
    records = []
    for span in found:
        output, given = (_float_array(values.get(key)) for key in (span.value, span.given))
        if output is not None:
            inputs = {} if given is None else {"0": given}
            records.append(module_record(span.path, span.kind, inputs, {"output": output}))
    return records


def _float_array(value: Any) -> Array | None:
    array = None if value is None else to_numpy(value)
    return array if array is not None and array.dtype.kind == "f" else None
