"""What a backend is: a file of this folder with a function ``load``.

``load(folder, class_name, options)`` returns a :class:`Session`. Options, all with defaults:

    dtype       float64, float32, float16, bfloat16; None keeps the file's
    device      cpu, cuda, cuda:1
    threads     how many the framework may use within an operation; 0 leaves it alone
    tf32        whether matrix products of float32 may be rounded to TensorFloat-32 (default: no)
    from_pt     TensorFlow and Flax classes read a PyTorch checkpoint themselves
    provider    of ONNX Runtime, e.g. TensorrtExecutionProvider
    optimize    whether ONNX Runtime may rewrite the graph (default: yes)
    outputs     names of a program's outputs where its file does not hold them
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


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

    def about(self) -> dict[str, Any]:
        """What it really runs on: device, precision, threads, switches."""
        ...

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """One forward pass; the outputs as the framework nests them."""
        ...

    def step(
        self,
        inputs: dict[str, Array],
        kwargs: dict[str, Any],
        state: Any,
        order: list[int] | None,
    ) -> tuple[Any, Any]:
        """A forward pass with a cache: the outputs, and the cache to go on from."""
        ...

    def capture(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """A forward pass that reports every module; see :func:`captured`."""
        ...

    def names(self) -> dict[str, list[int]]:
        """Shape of every weight by the framework's own name."""
        ...

    def save(self, folder: str, options: dict[str, Any]) -> None:
        """The framework's own ``save_pretrained``."""
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


class Plain:
    """What sessions have in common where a framework gives no cause to differ."""

    info: Mapping[str, list[str]] = {}
    accepts: frozenset[str] = frozenset()
    caches = False

    def step(
        self,
        inputs: dict[str, Array],
        kwargs: dict[str, Any],
        state: Any,
        order: list[int] | None,
    ) -> tuple[Any, Any]:
        """There is no cache."""
        raise NotImplementedError(f"{type(self).__name__} keeps no cache")

    def capture(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Nothing can be seen inside."""
        raise NotImplementedError(f"{type(self).__name__} does not show its modules")

    def names(self) -> dict[str, list[int]]:
        """No weights are known by name."""
        return {}

    def save(self, folder: str, options: dict[str, Any]) -> None:
        """A program is saved by copying it."""
        raise NotImplementedError(f"{type(self).__name__} does not save")

    def synchronize(self) -> None:
        """The results are arrays already."""

    def peak_bytes(self) -> int:
        """The largest resident set of the process."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def close(self) -> None:
        """Nothing is held beyond the object."""


def captured(
    path: str,
    kind: str,
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    weights: list[str] | None = None,
) -> dict[str, Any]:
    """One module's pass.

    Args:
        path: The module as the backend names it.
        kind: Its type.
        inputs: Its arrays by name or position.
        outputs: What it returned, flattened; a single tensor is called ``output``.
        weights: The names of the weights in and beneath it; None where the path is PyTorch's own.
    """
    return {"path": path, "kind": kind, "weights": weights, "inputs": inputs, "outputs": outputs}


def named(flat: dict[str, Array]) -> dict[str, Array]:
    """Flattened outputs; the one without a name is called ``output``."""
    return {name or "output": value for name, value in flat.items()}


def module_ends(nodes: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The last value of every module of a graph, in the order in which the modules end.

    Args:
        nodes: The module of every node (dotted path) and the node's value, in order.

    >>> module_ends([("a", 1), ("a.b", 2), ("a.b", 3), ("a", 4), ("c", 5)])
    [('a.b', 3), ('a', 4), ('c', 5)]
    """
    last: dict[str, int] = {}
    for index, (path, _) in enumerate(nodes):
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            last[".".join(parts[:depth])] = index
    # Of modules that end with the same node the inner one ends first.
    ends = sorted((index, -path.count("."), path) for path, index in last.items() if path)
    return [(path, nodes[index][1]) for index, _, path in ends]
