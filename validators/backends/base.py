"""The interface of backends. A backend is a module with a function ``load``.

``load(folder, class_name, options)`` returns a :class:`Session`. All options have defaults:

    dtype       float64 (PyTorch: dtype of the arithmetic), float32, float16 or bfloat16; None keeps the file's dtype
    device      cpu, cuda, cuda:1
    threads     number of threads that the framework uses within an operation; 0 keeps its default
    tf32        whether float32 matrix products may be rounded to TensorFloat-32 (default: no)
    factors     tf32 or bfloat16: what PyTorch rounds the factors of float32 matrix products to, on any device
    autocast    float16 or bfloat16: the dtype of PyTorch's automatic mixed precision (default: off)
    jitter      a seed; moves every weight of PyTorch's model to a neighbouring number of its dtype
    share       whether PyTorch's sessions of one model and dtype hold one copy of its weights (default: no)
    from_pt     whether the TensorFlow and Flax classes read a PyTorch checkpoint themselves
    provider    execution provider of ONNX Runtime, such as TensorrtExecutionProvider
    optimize    whether ONNX Runtime may optimize the graph (default: yes)
    outputs     names of a program's outputs, if its file does not store them
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from equipoise.validators.runtime.worker import to_numpy

Array = np.ndarray[Any, Any]
Options: TypeAlias = dict[str, Any]
"""Options of ``load``; the docstring of this module lists them."""
Kwargs: TypeAlias = dict[str, Any]
"""Further keyword arguments of the model's forward."""
Facts: TypeAlias = dict[str, Any]
"""How a model runs: device, precision, threads and numerical switches."""
Outputs: TypeAlias = Any
"""Outputs of a model as the framework nests them."""
CacheState: TypeAlias = Any
"""A KV cache and everything else that the next step needs."""
ModuleRecord: TypeAlias = dict[str, Any]
"""Inputs and outputs of one module in one forward pass; see :func:`module_record`."""
GraphValue: TypeAlias = Any
"""A value in a program's graph: a name, or a node of torch.fx."""


class Session(Protocol):
    """A model that is loaded in this process.

    Attributes:
        info: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of loading the weights.
        accepts: Names of the inputs that the model accepts.
        caches: Whether :meth:`step` works.
    """

    info: Mapping[str, list[str]]
    accepts: frozenset[str]
    caches: bool

    def about(self) -> Facts:
        """Describes how the model runs: device, precision, threads and numerical switches."""
        ...

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Runs one forward pass and returns the outputs as the framework nests them."""
        ...

    def step(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState,
        order: list[int] | None,
    ) -> tuple[Outputs, CacheState]:
        """Runs one forward pass with a KV cache.

        Args:
            inputs: In the first step all inputs; later the new tokens only.
            kwargs: Further keyword arguments of the model's forward.
            state: The cache to continue from; None in the first step.
            order: Rows of the cache to continue with, such as ``[0, 0, 2]`` in beam search. None keeps all rows.

        Returns:
            The outputs, and the cache for the next step.
        """
        ...

    def capture(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState = None,
        order: list[int] | None = None,
        cached: bool = False,
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """Does what :meth:`run` does, or :meth:`step` with ``cached``, and records all modules.

        Args:
            inputs: The inputs of the pass.
            kwargs: Further keyword arguments of the model's forward.
            state: The cache that the step continues from; None in the first step.
            order: Rows of the cache to continue with.
            cached: Whether the pass is a step with a cache.

        Returns:
            The outputs, and the records of all modules in the order in which they ended; see :func:`module_record`.
        """
        ...

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight, by the framework's own names."""
        ...

    def renamed(self) -> dict[str, str]:
        """Returns the model's name of each weight that has another name in the file."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has finished all work."""
        ...

    def peak_bytes(self) -> int:
        """Returns the peak memory of the process, or of its device, in bytes."""
        ...

    def close(self) -> None:
        """Releases the model's resources."""
        ...


class BaseSession:
    """Defaults for sessions: no cache, no captured modules, weights without names, memory of the process."""

    info: Mapping[str, list[str]] = {}
    accepts: frozenset[str] = frozenset()
    caches = False

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Raises NotImplementedError: every session defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define run")

    def step(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState,
        order: list[int] | None,
    ) -> tuple[Outputs, CacheState]:
        """Raises NotImplementedError: there is no cache."""
        raise NotImplementedError(f"{type(self).__name__} has no KV cache")

    def record_modules(self) -> AbstractContextManager[list[ModuleRecord]]:
        """Returns a context whose list gets the records of all modules of the passes within it.

        Raises:
            NotImplementedError: The modules cannot be captured.
        """
        raise NotImplementedError(f"{type(self).__name__} does not support capture")

    def capture(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState = None,
        order: list[int] | None = None,
        cached: bool = False,
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """Runs the same pass as :meth:`run` or :meth:`step` and records all modules; see :meth:`Session.capture`."""
        with self.record_modules() as records:
            if cached:
                outputs, _ = self.step(inputs, kwargs, state, order)
            else:
                outputs = self.run(inputs, kwargs)
        return outputs, records

    def names(self) -> dict[str, list[int]]:
        """Returns an empty dict: the weights have no names."""
        return {}

    def renamed(self) -> dict[str, str]:
        """Returns an empty dict: all weights have the names of the file."""
        return {}

    def synchronize(self) -> None:
        """Does nothing: the outputs are arrays already."""

    def peak_bytes(self) -> int:
        """Returns the peak resident set size of the process in bytes."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def close(self) -> None:
        """Does nothing: all resources are freed with the object."""


Plain = BaseSession
"""Former name of :class:`BaseSession`."""


def module_record(
    path: str,
    kind: str,
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    weights: list[str] | None = None,
) -> ModuleRecord:
    """Returns the record of one module in one forward pass.

    Args:
        path: The module's path as the backend names it.
        kind: Its class.
        inputs: Its input arrays by name or position.
        outputs: Its outputs, flattened; a single tensor is called ``output``.
        weights: Names of the weights in and below it; None if the path is PyTorch's own.
    """
    return {"path": path, "kind": kind, "weights": weights, "inputs": inputs, "outputs": outputs}


def name_outputs(flat: dict[str, Array]) -> dict[str, Array]:
    """Returns flattened outputs, with the name ``output`` for a single tensor."""
    return {name or "output": value for name, value in flat.items()}


@dataclass(frozen=True)
class GraphNode:
    """An operation of a program's graph.

    Attributes:
        path: Dotted path of the module that the operation came from.
        kind: Class of that module, or empty if the graph does not store it.
        value: The value that the operation computes; None if it is no tensor, or if this stands for the graph's outputs.
        inputs: The values that it uses.
    """

    path: str
    kind: str
    value: GraphValue
    inputs: tuple[GraphValue, ...]


@dataclass(frozen=True)
class ModuleSpan:
    """The part of a graph that came from one module.

    Attributes:
        path: Dotted path of the module.
        kind: Class of the module.
        values: Its outputs: values that operations outside of it use, in the order in which they are computed; if there
            are none, the last value that it computes.
        inputs: The values from outside that its operations use, in the order of their first use.
    """

    path: str
    kind: str
    values: tuple[GraphValue, ...]
    inputs: tuple[GraphValue, ...]


def module_spans(nodes: list[GraphNode]) -> list[ModuleSpan]:
    """Returns the modules of a graph, in the order in which their last operations run.

    >>> graph = [
    ...     GraphNode("a", "", 1, ()),
    ...     GraphNode("a.b", "", 2, (1,)),
    ...     GraphNode("a.b", "", 3, (2,)),
    ...     GraphNode("a", "", 4, (3,)),
    ... ]
    >>> [(span.path, span.values, span.inputs) for span in module_spans(graph)]
    [('a.b', (3,), (1,)), ('a', (4,), ())]
    """
    last_index: dict[str, int] = {}
    inputs: dict[str, dict[GraphValue, None]] = {}
    outputs: dict[str, set[GraphValue]] = {}
    path_of = {node.value: node.path for node in nodes if node.value is not None}
    position = {value: index for index, value in enumerate(path_of)}
    for index, node in enumerate(nodes):
        around = set(_paths_around(node.path))
        if node.value is not None:
            last_index.update(dict.fromkeys(around, index))
        for value in node.inputs:
            made_in = set(_paths_around(path_of.get(value, "")))
            for path in made_in - around:
                outputs.setdefault(path, set()).add(value)
            for path in around - made_in if value in path_of else ():
                inputs.setdefault(path, {})[value] = None
    # If two modules end with the same node, the inner one comes first.
    endings = sorted((index, -path.count("."), path) for path, index in last_index.items())
    kinds = {node.path: node.kind for node in nodes}
    return [
        ModuleSpan(
            path,
            kinds.get(path, ""),
            tuple(sorted(outputs.get(path, {nodes[index].value}), key=position.__getitem__)),
            tuple(inputs.get(path, ())),
        )
        for index, _, path in endings
    ]


def _paths_around(path: str) -> list[str]:
    """Returns the paths of a module and of those around it.

    >>> _paths_around("a.b"), _paths_around("")
    (['a', 'a.b'], [])
    """
    parts = path.split(".") if path else []
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def module_records(
    spans: list[ModuleSpan], values: Mapping[GraphValue, Outputs]
) -> list[ModuleRecord]:
    """Returns the records of modules, given the values of a graph; skips modules without floating-point outputs.

    A graph does not tell which output is which: several are called ``value 0``, ``value 1`` ...
    """
    records = []
    for span in spans:
        outputs = _float_arrays(span.values, values)
        if outputs:
            inputs = _float_arrays(span.inputs, values)
            named = {f"value {position}": value for position, value in enumerate(outputs)}
            records.append(
                module_record(
                    span.path,
                    span.kind,
                    {str(position): value for position, value in enumerate(inputs)},
                    named if len(named) > 1 else {"output": outputs[0]},
                )
            )
    return records


def _float_arrays(keys: Iterable[GraphValue], values: Mapping[GraphValue, Outputs]) -> list[Array]:
    """Returns those of some values that are floating-point arrays."""
    arrays = [to_numpy(values[key]) for key in keys if values.get(key) is not None]
    return [array for array in arrays if array is not None and array.dtype.kind == "f"]
