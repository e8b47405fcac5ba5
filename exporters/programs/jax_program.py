"""Exports lowered graphs as programs of ``jax.export``; their weights are an argument in the Flax layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from equipoise.convert.core.framework_types import JaxExported, JaxTree
from equipoise.exporters.programs.weight_arguments import LoweredFunction, weight_functions
from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.input_specs import InputSpecs
from equipoise.exporters.weight_layout import flatten_tree, nest_paths

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True)
class SerializedPrograms:
    """JAX programs ready to be written.

    Attributes:
        programs: Serialized programs of ``jax.export`` by role.
        tree: The weights of all programs in the Flax layout, as NumPy arrays.
        notes: Notes for artifact.json.
    """

    programs: dict[str, bytes]
    tree: dict[str, Any]
    notes: list[str]


def export_programs(graphs: Mapping[str, LoweredGraph]) -> SerializedPrograms:
    """Exports graphs for all platforms, with dynamic sizes as symbols and the weights as one tree."""
    import jax
    import numpy as np

    programs: dict[str, bytes] = {}
    with jax.enable_x64(True):
        functions, weights, origin = weight_functions(graphs, "flax")
        notes = [f"weights in the Flax layout: {origin}"]
        tree = nest_paths(weights)
        shapes = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), tree)
        for role, graph in graphs.items():
            export = partial(_export_one, functions[role], shapes)
            exported, size_notes = export_with_constraints(graph, export)
            programs[role], gradient_notes = _serialize(exported)
            notes += [*size_notes, *gradient_notes]
    return SerializedPrograms(programs, jax.tree.map(np.asarray, tree), list(dict.fromkeys(notes)))


def _export_one(function: LoweredFunction, shapes: JaxTree, specs: InputSpecs) -> JaxExported:
    import jax
    from jax import export

    def with_tree(tree: JaxTree, inputs: JaxTree) -> JaxTree:
        return function(flatten_tree(tree), inputs)

    return export.export(jax.jit(with_tree), platforms=PLATFORMS)(shapes, specs.shapes)


def _serialize(exported: JaxExported) -> tuple[bytes, list[str]]:
    """Serializes a program with its gradient, or without one where JAX finds none; returns notes too."""
    try:
        return bytes(exported.serialize(vjp_order=1)), []
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        return bytes(exported.serialize()), [f"no gradient: {type(error).__name__}: {reason}"]
