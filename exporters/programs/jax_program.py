"""Lowered graphs as programs of ``jax.export``, whose weights are an argument in the Flax layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from equipoise.exporters.lowering.interpreter import to_jax_array
from equipoise.exporters.lowering.program import LoweredProgram, lower_model
from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.input_specs import InputSpecs, io_dtype
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.weight_layout import WeightLayout, flatten_tree, nest_paths, weight_layout

PLATFORMS = ("cpu", "cuda", "tpu")
WRAPPER_PREFIX = "model."
"""Exporters see the model as this attribute of a module that names its inputs."""


@dataclass(frozen=True)
class SerializedPrograms:
    """What is written.

    Attributes:
        programs: Of ``jax.export``, as bytes, by role.
        tree: The weights of all of them in the Flax layout, arrays of numpy.
        notes: What there is to know.
    """

    programs: dict[str, bytes]
    tree: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class LoweredFunction:
    """The function that becomes a program: ``call(weights, inputs)`` gives a dict of outputs."""

    lowered: LoweredProgram
    layout: WeightLayout
    fixed: Mapping[str, Any]

    def __call__(self, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, integers of 32 bits; the weights by the layout's names."""
        own = {
            WRAPPER_PREFIX + name: value for name, value in self.layout.to_pytorch(weights).items()
        }
        found = self.lowered({**self.fixed, **own}, inputs)
        return {name: value.astype(_io_dtype(value.dtype)) for name, value in found.items()}


def _io_dtype(dtype: Any) -> Any:
    import torch

    known = getattr(torch, str(dtype), None)
    return dtype if known is None else io_dtype(known)


def lower_models(sources: Mapping[str, ExportableModel], way: str) -> dict[str, LoweredGraph]:
    """The lowered graphs by role, made in one of the two ways into ``torch.export``."""
    return {
        role: LoweredGraph(lower_model(source, way), source) for role, source in sources.items()
    }


def weight_functions(
    graphs: Mapping[str, LoweredGraph], layout: str
) -> tuple[dict[str, LoweredFunction], dict[str, Any], str]:
    """The functions by role, the weights that each of them takes first, by the layout's names, and whose names these are.

    Counters, tables and the like, which other frameworks do not keep, are constants of the program.
    """
    every: dict[str, Any] = {}
    for graph in graphs.values():
        every.update(graph.lowered.weights)
    floating = [
        name.removeprefix(WRAPPER_PREFIX) for name, one in every.items() if one.is_floating_point()
    ]
    found = weight_layout(next(iter(graphs.values())).source.model, floating, layout)
    kept = {WRAPPER_PREFIX + name for rule in found.rules for name in rule.sources}
    arrays = {name: to_jax_array(value) for name, value in every.items()}
    weights = {
        name.removeprefix(WRAPPER_PREFIX): one for name, one in arrays.items() if name in kept
    }
    fixed = {name: one for name, one in arrays.items() if name not in kept}
    made = {role: LoweredFunction(graph.lowered, found, fixed) for role, graph in graphs.items()}
    return made, found.from_pytorch(weights), found.origin


def export_programs(graphs: Mapping[str, LoweredGraph]) -> SerializedPrograms:
    """Lowers for all platforms, with the sizes that vary left open, and the weights as one tree of Flax."""
    import jax
    import numpy as np

    made: dict[str, bytes] = {}
    with jax.enable_x64(True):
        calls, weights, origin = weight_functions(graphs, "flax")
        notes = [f"weights in the Flax layout: {origin}"]
        tree = nest_paths(weights)
        shapes = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), tree)
        for role, graph in graphs.items():
            program, sizes = export_with_constraints(
                graph, partial(_export_one, calls[role], shapes)
            )
            made[role], missing = _serialize(program)
            notes += [*sizes, *missing]
    return SerializedPrograms(made, jax.tree.map(np.asarray, tree), list(dict.fromkeys(notes)))


def _export_one(call: LoweredFunction, shapes: Any, specs: InputSpecs) -> Any:
    import jax
    from jax import export

    def whole(tree: Any, inputs: Any) -> Any:
        return call(flatten_tree(tree), inputs)

    return export.export(jax.jit(whole), platforms=PLATFORMS)(shapes, specs.shapes)


def _serialize(program: Any) -> tuple[bytes, list[str]]:
    """The program with its gradient, or without one where JAX finds none; and what there is to note."""
    try:
        return bytes(program.serialize(vjp_order=1)), []
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        return bytes(program.serialize()), [f"no gradient: {type(error).__name__}: {reason}"]
