"""An exported program decomposed into ATen's core operators, with its weights and inputs by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from equipoise.convert.core.framework_types import ExportedProgram, JaxArray, TorchTensor
from equipoise.exporters.lowering.dtypes import to_jax_array, to_jax_dtype


@dataclass(frozen=True)
class LoweredProgram:
    """A program of ``torch.export`` whose operators are ATen's core ones.

    Attributes:
        program: The decomposed program.
        names: Names of the inputs in their order.
    """

    program: ExportedProgram
    names: tuple[str, ...]

    @cached_property
    def weights(self) -> dict[str, TorchTensor]:
        """The weights by name; a tied weight is listed under its first name."""
        return {
            name: tensor
            for name, tensor in self.program.state_dict.items()
            if self._first_name[name] == name
        }

    @cached_property
    def _first_name(self) -> dict[str, str]:
        """For each name of a weight the first name of the same tensor."""
        seen: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
        found = {}
        for name, tensor in self.program.state_dict.items():
            key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
            found[name] = seen.setdefault(key, name) if tensor.numel() else name
        return found

    def placeholder_values(
        self, weights: Mapping[str, JaxArray], inputs: Mapping[str, Any]
    ) -> list[JaxArray]:
        """Returns the values of the graph's placeholders in their order.

        Args:
            weights: Arrays by the names of :attr:`weights`.
            inputs: Arrays by name; integers may have any width.
        """
        from jax import numpy as jnp

        names = iter(self.names)
        values: list[JaxArray] = []
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        specs = self.program.graph_signature.input_specs
        for node, spec in zip(placeholders, specs, strict=True):
            if spec.kind.name == "USER_INPUT":
                value = inputs[next(names)]
                values.append(jnp.asarray(value, to_jax_dtype(node.meta["val"].dtype)))
            elif spec.target in self._first_name:
                values.append(weights[self._first_name[spec.target]])
            else:
                values.append(to_jax_array(self.program.constants[spec.target]))
        return values

    def outputs_by_name(self, results: Sequence[JaxArray]) -> dict[str, JaxArray]:
        """Returns the model's outputs by name, from what the graph returned."""
        from torch.utils._pytree import tree_unflatten

        kept = [
            value
            for value, spec in zip(results, self.program.graph_signature.output_specs, strict=True)
            if spec.kind.name == "USER_OUTPUT"
        ]
        return dict(tree_unflatten(kept, self.program.call_spec.out_spec))


def lower(program: ExportedProgram, names: tuple[str, ...]) -> LoweredProgram:
    """Decomposes a program into ATen's core operators.

    PyTorch's guards are dropped: JAX checks sizes itself, and torch 2.13 fails to run guards on a length that is the
    sum of two others.
    """
    program._guards_code = []
    return LoweredProgram(program.run_decompositions(decompositions()), names)


def decompositions() -> dict[Any, Any]:
    """Returns PyTorch's decompositions without those of matrix products.

    Decomposed, a product flattens axes of dynamic size, and the program becomes larger.
    """
    import torch

    table: dict[Any, Any] = torch.export.default_decompositions()
    for name in ("linear", "matmul"):
        table.pop(getattr(torch.ops.aten, name).default)
    return table
