"""An exported program as a function of JAX: weights by PyTorch's names and inputs in, outputs by name out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from equipoise.exporters.lowering.interpreter import interpret, to_jax_array
from equipoise.exporters.shapes.branch_check import SizeLimit, check_size_branches
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.torch_export import export_with_strategy


@dataclass(frozen=True)
class LoweredProgram:
    """A program of ``torch.export`` whose operators are ATen's core ones.

    Attributes:
        program: The ``ExportedProgram``, decomposed.
        names: The inputs' names in their order.
        limits: Sizes beyond which it is not the model.
    """

    program: Any
    names: tuple[str, ...]
    limits: tuple[SizeLimit, ...] = ()

    @cached_property
    def weights(self) -> dict[str, Any]:
        """Tensors by name; a tensor that has several names is here under the first."""
        return {
            name: tensor
            for name, tensor in self.program.state_dict.items()
            if self._first_name[name] == name
        }

    @cached_property
    def _first_name(self) -> dict[str, str]:
        """For each name of a weight the first of the names that its tensor has."""
        seen: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
        found = {}
        for name, tensor in self.program.state_dict.items():
            where = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
            found[name] = seen.setdefault(where, name) if tensor.numel() else name
        return found

    def __call__(self, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs.

        Args:
            weights: Arrays by the names of :attr:`weights`.
            inputs: Arrays by name; integers of any size.

        Raises:
            LoweringError: An operator is unknown.
        """
        from torch.utils._pytree import tree_unflatten

        values = self._values(weights, inputs)
        found = interpret(self.program.graph_module, values)
        kept = [
            value
            for value, spec in zip(found, self.program.graph_signature.output_specs, strict=True)
            if spec.kind.name == "USER_OUTPUT"
        ]
        return dict(tree_unflatten(kept, self.program.call_spec.out_spec))

    def _values(self, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[Any]:
        """What the placeholders stand for, in their order."""
        from jax import numpy as jnp

        from equipoise.exporters.lowering.dtypes import to_jax_dtype

        given = iter(self.names)
        values: list[Any] = []
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        specs = self.program.graph_signature.input_specs
        for node, spec in zip(placeholders, specs, strict=True):
            kind = spec.kind.name
            if kind == "USER_INPUT":
                value = inputs[next(given)]
                values.append(jnp.asarray(value, to_jax_dtype(node.meta["val"].dtype)))
            elif spec.target in self._first_name:
                values.append(weights[self._first_name[spec.target]])
            else:
                values.append(to_jax_array(self.program.constants[spec.target]))
        return values


def lower(
    program: Any, names: tuple[str, ...], limits: tuple[SizeLimit, ...] = ()
) -> LoweredProgram:
    """The program with its operators taken apart into ATen's core ones."""
    # JAX has its own checks of sizes, and torch 2.13 fails at running these on a length that is a sum of two others.
    program._guards_code = []
    return LoweredProgram(program.run_decompositions(decompositions()), names, limits)


def decompositions() -> Any:
    """PyTorch's own, less those of products: taken apart they flatten axes whose sizes are open, and what comes out is larger."""
    import torch

    found = torch.export.default_decompositions()
    for name in ("linear", "matmul"):
        found.pop(getattr(torch.ops.aten, name).default)
    return found


def lower_model(source: ExportableModel, way: str) -> LoweredProgram:
    """A model's graph, by one of the two ways into ``torch.export``."""
    found = check_size_branches(source, lambda one: export_with_strategy(one, way))
    return lower(found.program, tuple(source.tensors), found.limits)
