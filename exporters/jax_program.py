"""A lowered graph as a program of ``jax.export``, whose weights are an argument in the Flax layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.lowering.interpret import constant
from equipoise.exporters.lowering.program import Lowered
from equipoise.exporters.lowering.symbols import Specs, input_specs, narrow
from equipoise.exporters.weight_layout import WeightLayout, flat, layout_of, nested

PLATFORMS = ("cpu", "cuda", "tpu")
WITHIN = "model."
"""Exporters see the model as this attribute of a module that names its inputs."""


@dataclass(frozen=True)
class Program:
    """What is written.

    Attributes:
        program: Of ``jax.export``, as bytes.
        tree: The weights in the Flax layout, arrays of numpy.
        notes: What there is to know.
    """

    program: bytes
    tree: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Callee:
    """The function that becomes a program: ``call(weights, inputs)`` gives a dict of outputs."""

    lowered: Lowered
    layout: WeightLayout
    fixed: Mapping[str, Any]

    def __call__(self, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, integers of 32 bits; the weights by the layout's names."""
        own = {WITHIN + name: value for name, value in self.layout.to_pytorch(weights).items()}
        found = self.lowered({**self.fixed, **own}, inputs)
        return {name: value.astype(_narrow(value.dtype)) for name, value in found.items()}


def _narrow(dtype: Any) -> Any:
    import torch

    known = getattr(torch, str(dtype), None)
    return dtype if known is None else narrow(known)


def callee(graph: Lowered, source: Source, layout: str) -> tuple[Callee, dict[str, Any]]:
    """The function, and the weights that it takes first: arrays by the layout's names.

    Counters, tables and the like, which other frameworks do not keep, are constants of the program.
    """
    floating = [name for name, value in graph.weights.items() if value.is_floating_point()]
    found = layout_of(source.model, [name.removeprefix(WITHIN) for name in floating], layout)
    kept = {WITHIN + name for rule in found.rules for name in rule.sources}
    arrays = {name: constant(value) for name, value in graph.weights.items()}
    weights = {name.removeprefix(WITHIN): one for name, one in arrays.items() if name in kept}
    fixed = {name: one for name, one in arrays.items() if name not in kept}
    return Callee(graph, found, fixed), found.from_pytorch(weights)


def program_of(graph: Lowered, source: Source) -> Program:
    """Lowers for all platforms, with the sizes that vary left open, and the weights as Flax's tree."""
    import jax
    import numpy as np
    from jax import export

    with jax.enable_x64(True):
        call, weights = callee(graph, source, "flax")
        tree = nested(weights)
        shapes = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), tree)

        def whole(tree: Any, inputs: Any) -> Any:
            return call(flat(tree), inputs)

        made, notes = with_sizes(
            graph,
            source,
            lambda specs: export.export(jax.jit(whole), platforms=PLATFORMS)(shapes, specs.shapes),
        )
        data, missing = _bytes(made)
    notes = [f"weights in the Flax layout: {call.layout.origin}", *notes, *missing]
    return Program(data, jax.tree.map(np.asarray, tree), notes)


def _bytes(program: Any) -> tuple[bytes, list[str]]:
    """The program with its gradient, or without one where JAX finds none; and what there is to note."""
    try:
        return bytes(program.serialize(vjp_order=1)), []
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        return bytes(program.serialize()), [f"no gradient: {type(error).__name__}: {reason}"]


def with_sizes(
    graph: Lowered, source: Source, make: Callable[[Specs], Any]
) -> tuple[Any, list[str]]:
    """What ``make`` makes of the inputs' shapes, and what there is to note.

    Where JAX cannot decide a question about sizes, what PyTorch assumed of them (at least 2) is stated.
    """
    from jax.extend.core import InconclusiveDimensionOperation

    try:
        return make(input_specs(graph.program, graph.names, source.axes)), []
    except Exception as error:
        if not _undecided(error, InconclusiveDimensionOperation):
            raise
    specs = input_specs(graph.program, graph.names, source.axes, least=True)
    return make(specs), ["sizes that vary are at least what PyTorch assumed, usually 2"]


def _undecided(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether a question about sizes is at the bottom of an error."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
