"""Helpers that lower modules to JAX and run them, eagerly and as an exported program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from equipoise.exporters.lowering.interpreter import run_program
from equipoise.exporters.lowering.program import LoweredProgram
from equipoise.exporters.shapes.input_specs import InputSpecs


def graph_of(module: Any, inputs: Mapping[str, Any], dynamic: Any = None) -> LoweredProgram:
    """Returns the lowered graph of a module for inputs by name; ``dynamic`` is what ``torch.export`` calls dynamic shapes."""
    import torch

    from equipoise.exporters.lowering.program import lower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls what it deprecates.
        program = torch.export.export(
            module.eval(), (), dict(inputs), dynamic_shapes=dynamic, strict=False
        )
        return lower(program, tuple(inputs))


def weights_of(graph: LoweredProgram) -> dict[str, Any]:
    from equipoise.exporters.lowering.dtypes import to_jax_array

    return {name: to_jax_array(tensor) for name, tensor in graph.weights.items()}


def run_eagerly(graph: LoweredProgram, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a graph eagerly, without an exported program."""
    import jax

    from equipoise.exporters.lowering.dtypes import to_jax_array

    with jax.enable_x64(True):
        given = {name: to_jax_array(tensor) for name, tensor in inputs.items()}
        return run_program(graph, weights_of(graph), given)


def export_callable(graph: LoweredProgram, axes: Mapping[str, Mapping[int, str]]) -> Any:
    """Returns the exported program with symbolic sizes as a function of inputs by name."""
    import jax
    from jax import export

    from equipoise.exporters.lowering.dtypes import to_jax_array
    from equipoise.exporters.shapes.input_specs import input_specs

    with jax.enable_x64(True):
        weights = weights_of(graph)
        shapes = {name: jax.ShapeDtypeStruct(one.shape, one.dtype) for name, one in weights.items()}
        specs = input_specs(graph.program, graph.names, axes, least=True).shapes
        program = export.export(
            jax.jit(lambda weights, inputs: run_program(graph, weights, inputs))
        )(shapes, specs)

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        with jax.enable_x64(True):
            given = {
                name: to_jax_array(tensor).astype(specs[name].dtype)
                for name, tensor in inputs.items()
            }
            return dict(program.call(weights, given))

    return call


def make_exporter(graph: LoweredProgram) -> Callable[[InputSpecs], Any]:
    """Returns a function for ``export_with_constraints`` that exports a program for given shapes with constant weights."""
    import jax
    from jax import export

    call = jax.jit(lambda inputs: run_program(graph, weights_of(graph), inputs))
    return lambda specs: export.export(call)(specs.shapes)


def assert_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Asserts equal dtypes, shapes and values; floating point values within a millionth of the largest."""
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        value, other = np.asarray(found[name]), tensor.detach().numpy()
        assert (value.dtype, value.shape) == (other.dtype, other.shape), name
        largest = float(np.abs(other).max()) if other.size else 0.0
        bound = 1e-6 * max(largest, 1.0) if other.dtype.kind == "f" else 0
        np.testing.assert_allclose(value, other, rtol=0, atol=bound, err_msg=name)
