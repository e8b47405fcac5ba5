"""Turns lowered graphs into functions of TensorFlow, whose variables have the names of the TensorFlow layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from equipoise.convert.core.framework_types import TfFunction, TfModule
from equipoise.exporters.cache_names import WHOLE_MODEL
from equipoise.exporters.programs.weight_arguments import LoweredFunction, weight_functions
from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.input_specs import InputSpecs
from equipoise.exporters.target import argument_name

PLATFORMS = ("cpu", "cuda")
"""Platforms that TensorFlow runs on."""


def signature_name(role: str) -> str:
    """Returns the signature name of a graph; a whole model uses ``serving_default``."""
    return "serving_default" if role == WHOLE_MODEL else role


def save_saved_model(graphs: Mapping[str, LoweredGraph], path: Path) -> list[str]:
    """Writes a SavedModel with a signature for each graph; returns notes for artifact.json."""
    import tensorflow as tf

    with trace_functions(graphs, PLATFORMS) as (module, functions, notes):
        signatures = {signature_name(role): function for role, function in functions.items()}
        tf.saved_model.save(module, str(path), signatures=signatures)
    return [f"variables named as in the TensorFlow layout: {notes[0]}", *notes[1:]]


@contextmanager
def trace_functions(
    graphs: Mapping[str, LoweredGraph], platforms: tuple[str, ...]
) -> Iterator[tuple[TfModule, dict[str, TfFunction], list[str]]]:
    """Yields a module with the variables, concrete functions by role, and notes, the origin of the names first."""
    import jax
    import tensorflow as tf

    with jax.enable_x64(True):
        calls, weights, origin = weight_functions(graphs, "tensorflow")
        notes = [origin]
        module = tf.Module()
        module.weights = {
            name: tf.Variable(value, name=name, trainable=True) for name, value in weights.items()
        }
        module.calls = {}
        with _stablehlo_for_tensorflow():
            for role, graph in graphs.items():
                export = partial(_concrete_function, calls[role], module, platforms)
                module.calls[role], size_notes = export_with_constraints(graph, export)
                notes += size_notes
        functions = {role: call.get_concrete_function() for role, call in module.calls.items()}
        yield module, functions, list(dict.fromkeys(notes))


def _concrete_function(
    call: LoweredFunction, module: TfModule, platforms: tuple[str, ...], specs: InputSpecs
) -> TfFunction:
    """Returns a function of TensorFlow with these inputs; tracing it lowers the program."""
    import tensorflow as tf
    from jax.experimental import jax2tf

    shapes = specs.shapes
    arguments = {argument_name(name): name for name in shapes}

    def with_arguments(weights: Any, inputs: Any) -> Any:
        return call(weights, {arguments[name]: value for name, value in inputs.items()})

    converted = jax2tf.convert(
        with_arguments,
        polymorphic_shapes=[
            None,
            {name: _polymorphic_shape(shapes[full]) for name, full in arguments.items()},
        ],
        polymorphic_constraints=specs.constraints,
        with_gradient=False,
        native_serialization_platforms=platforms,
    )
    signature = [
        tf.TensorSpec(
            [size if isinstance(size, int) else None for size in shapes[full].shape],
            tf.as_dtype(shapes[full].dtype),
            name,
        )
        for name, full in arguments.items()
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def serve(*inputs: Any) -> Any:
        return converted(module.weights, dict(zip(arguments, inputs, strict=True)))

    serve.get_concrete_function()
    return serve


def _polymorphic_shape(spec: Any) -> str:
    return f"({', '.join(str(size) for size in spec.shape)})" if spec.shape else "()"


@contextmanager
def _stablehlo_for_tensorflow() -> Iterator[None]:
    """Makes JAX write StableHLO that the installed TensorFlow reads; there is no setting for it.

    JAX writes what readers of the last four weeks know. TensorFlow 2.21 reads version 1.13 where JAX 0.10 writes 1.15,
    and fails only when the program runs. TensorFlow does not look into composites either, which JAX makes of functions
    outside of StableHLO (``erf``): their bodies keep dynamic sizes. So these functions are expanded first. Waits for a
    TensorFlow that reads what the installed JAX writes.
    """
    writer = import_module("jax._src.export._export")
    with mock.patch.object(writer, "_module_to_bytecode", _serialize):
        yield


def _serialize(module: Any) -> bytes:
    """Serializes a module of StableHLO in the version that TensorFlow reads."""
    dialect: Any = import_module("jaxlib.mlir.dialects.stablehlo")
    passes: Any = import_module("jaxlib.mlir.passmanager").PassManager
    reader: Any = import_module("tensorflow.compiler.mlir.stablehlo.stablehlo")
    backend: Any = import_module("jax._src.lib")._jax.mlir
    dialect.register_stablehlo_passes()
    with module.context:
        expanded = passes.parse("builtin.module(func.func(chlo-legalize-to-stablehlo))")
        expanded.run(module.operation)
    version = reader.get_smaller_version(
        dialect.get_current_version(), reader.get_current_version()
    )
    serialized: bytes = backend.serialize_portable_artifact(module, version, False)
    return serialized
