"""A lowered graph as a program of ``jax.export``, whose weights are an argument in the Flax layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.flax_layout import FlaxLayout, flax_layout
from equipoise.exporters.lowering.interpret import constant
from equipoise.exporters.lowering.program import Lowered
from equipoise.exporters.lowering.symbols import input_specs, narrow

WEIGHTS = "flax_model.msgpack"
PLATFORMS = ("cpu", "cuda", "tpu")
WITHIN = "model."
"""Exporters see the model as this attribute of a module that names its inputs."""


@dataclass(frozen=True)
class Program:
    """What is written.

    Attributes:
        program: Of ``jax.export``.
        tree: The weights in the Flax layout, arrays of numpy.
        notes: What there is to know.
        gradients: How often it can be differentiated.
    """

    program: Any
    tree: dict[str, Any]
    notes: list[str]
    gradients: int = 1


@dataclass(frozen=True, eq=False)
class Callee:
    """The function that becomes a program: ``call(tree, inputs)`` gives a dict of outputs."""

    lowered: Lowered
    layout: FlaxLayout
    fixed: Mapping[str, Any]

    def __call__(self, tree: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name; integers of 32 bits."""
        weights = {WITHIN + name: value for name, value in self.layout.weights(tree).items()}
        found = self.lowered({**self.fixed, **weights}, inputs)
        return {name: value.astype(_narrow(value.dtype)) for name, value in found.items()}


def _narrow(dtype: Any) -> Any:
    import torch

    known = getattr(torch, str(dtype), None)
    return dtype if known is None else narrow(known)


def callee(graph: Lowered, source: Source) -> tuple[Callee, dict[str, Any]]:
    """The function, and the tree of weights that it takes first.

    Counters and the like, which Flax does not keep, are constants of the program.
    """
    kept = {name: value for name, value in graph.weights.items() if value.is_floating_point()}
    fixed = {name: constant(value) for name, value in graph.weights.items() if name not in kept}
    names = [name.removeprefix(WITHIN) for name in kept]
    layout = flax_layout(source.model, names)
    tree = layout.tree({name.removeprefix(WITHIN): constant(value) for name, value in kept.items()})
    return Callee(graph, layout, fixed), tree


def program_of(graph: Lowered, source: Source) -> Program:
    """Lowers for all platforms, with the sizes that vary left open.

    Where JAX cannot decide a question about sizes, what PyTorch assumed of them (at least 2) is stated.
    """
    import jax
    import numpy as np
    from jax import export
    from jax.extend.core import InconclusiveDimensionOperation

    with jax.enable_x64(True):
        call, tree = callee(graph, source)
        weights = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), tree)
        made, notes = None, [f"weights in the Flax layout: {call.layout.origin}"]
        for least in (False, True):
            specs = input_specs(graph.program, graph.names, source.axes, least=least)
            try:
                made = export.export(jax.jit(call), platforms=PLATFORMS)(weights, specs)
                break
            except Exception as error:
                if least or not _undecided(error, InconclusiveDimensionOperation):
                    raise
                notes.append("sizes that vary are at least what PyTorch assumed, usually 2")
    return Program(made, jax.tree.map(np.asarray, tree), notes)


def _undecided(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether a question about sizes is at the bottom of an error."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
