"""Makes the weights of lowered graphs an argument, under the names of another framework's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.convert.core.framework_types import JaxArray, JaxDtype
from equipoise.exporters.lowering.dtypes import to_jax_array
from equipoise.exporters.lowering.interpreter import run_program
from equipoise.exporters.lowering.program import LoweredProgram
from equipoise.exporters.shapes.constraint_search import LoweredGraph
from equipoise.exporters.shapes.input_specs import io_dtype
from equipoise.exporters.weight_layout import WeightLayout, weight_layout

WRAPPER_PREFIX = "model."
"""Exporters see the model as this attribute of the module that names its inputs."""


@dataclass(frozen=True, eq=False)
class LoweredFunction:
    """The function that becomes a program: ``function(weights, inputs)`` returns a dict of outputs.

    Attributes:
        program: What it computes.
        layout: Names and axis order of the weights.
        constants: Arrays that are no weights of the layout, by PyTorch's names.
    """

    program: LoweredProgram
    layout: WeightLayout
    constants: Mapping[str, JaxArray]

    def __call__(
        self, weights: Mapping[str, JaxArray], inputs: Mapping[str, JaxArray]
    ) -> dict[str, JaxArray]:
        """Returns the outputs by name, integers with 32 bits; weights are given by the layout's names."""
        own = {
            WRAPPER_PREFIX + name: value for name, value in self.layout.to_pytorch(weights).items()
        }
        outputs = run_program(self.program, {**self.constants, **own}, inputs)
        return {name: value.astype(_output_dtype(value.dtype)) for name, value in outputs.items()}


def _output_dtype(dtype: JaxDtype) -> JaxDtype:
    import torch

    known = getattr(torch, str(dtype), None)
    return dtype if known is None else io_dtype(known)


def weight_functions(
    graphs: Mapping[str, LoweredGraph], layout: str
) -> tuple[dict[str, LoweredFunction], dict[str, Any], str]:
    """Splits lowered graphs into functions and their weights.

    Counters, position tables and the like, which other frameworks do not store, become constants.

    Returns:
        (functions by role, weights by layout name, origin of the names)
    """
    tensors: dict[str, Any] = {}
    for graph in graphs.values():
        tensors.update(graph.lowered.weights)
    floating = [
        name.removeprefix(WRAPPER_PREFIX)
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    ]
    found = weight_layout(next(iter(graphs.values())).source.model, floating, layout)
    stored = {WRAPPER_PREFIX + name for rule in found.rules for name in rule.sources}
    arrays = {name: to_jax_array(value) for name, value in tensors.items()}
    weights = {
        name.removeprefix(WRAPPER_PREFIX): one for name, one in arrays.items() if name in stored
    }
    constants = {name: one for name, one in arrays.items() if name not in stored}
    functions = {
        role: LoweredFunction(graph.lowered, found, constants) for role, graph in graphs.items()
    }
    return functions, found.from_pytorch(weights), found.origin
