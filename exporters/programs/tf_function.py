"""Lowered graphs as a SavedModel of TensorFlow, whose variables have the names of the TensorFlow layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from equipoise.exporters.programs.jax_program import weight_functions
from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.input_specs import InputSpecs
from equipoise.exporters.target import argument_name

PLATFORMS = ("cpu", "cuda")
"""What TensorFlow runs on."""


def signature_name(role: str) -> str:
    """What the signature of a graph is called: that of a whole model is the one that is served unasked."""
    return "serving_default" if role == "model" else role


def save_saved_model(graphs: Mapping[str, LoweredGraph], path: Path) -> list[str]:
    """Writes the SavedModel, a signature a graph; gives what there is to note."""
    import tensorflow as tf

    with trace_functions(graphs, PLATFORMS) as (module, functions, notes):
        signatures = {signature_name(role): function for role, function in functions.items()}
        tf.saved_model.save(module, str(path), signatures=signatures)
    return [f"variables named as in the TensorFlow layout: {notes[0]}", *notes[1:]]


@contextmanager
def trace_functions(
    graphs: Mapping[str, LoweredGraph], platforms: tuple[str, ...]
) -> Iterator[tuple[Any, dict[str, Any], list[str]]]:
    """A module with the variables, its concrete functions by role, and what there is to note, the names' origin first."""
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
                make = partial(_concrete_function, calls[role], module, platforms)
                module.calls[role], sizes = export_with_constraints(graph, make)
                notes += sizes
        functions = {role: call.get_concrete_function() for role, call in module.calls.items()}
        yield module, functions, list(dict.fromkeys(notes))


def _concrete_function(
    call: Any, module: Any, platforms: tuple[str, ...], specs: InputSpecs
) -> Any:
    """A function of TensorFlow with these inputs; tracing it lowers the program."""
    import tensorflow as tf
    from jax.experimental import jax2tf

    shapes = specs.shapes
    known = {argument_name(name): name for name in shapes}

    def named(weights: Any, inputs: Any) -> Any:
        return call(weights, {known[name]: value for name, value in inputs.items()})

    converted = jax2tf.convert(
        named,
        polymorphic_shapes=[
            None,
            {name: _polymorphic_shape(shapes[full]) for name, full in known.items()},
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
        for name, full in known.items()
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def serve(*inputs: Any) -> Any:
        return converted(module.weights, dict(zip(known, inputs, strict=True)))

    serve.get_concrete_function()
    return serve


def _polymorphic_shape(spec: Any) -> str:
    return f"({', '.join(str(size) for size in spec.shape)})" if spec.shape else "()"


@contextmanager
def _stablehlo_for_tensorflow() -> Iterator[None]:
    """Has JAX write StableHLO that the installed TensorFlow reads; there is no setting for it.

    JAX writes what readers four weeks old know. TensorFlow 2.21 reads 1.13 where JAX 0.10 writes 1.15, and fails only
    when the program is run. And it does not look into composites, which JAX makes of functions beyond StableHLO (erf):
    their bodies keep open sizes. So those functions are spelled out first.
    """
    writer: Any = import_module("jax._src.export._export")
    kept = writer._module_to_bytecode
    writer._module_to_bytecode = _serialize
    try:
        yield
    finally:
        writer._module_to_bytecode = kept


def _serialize(module: Any) -> bytes:
    """A module of StableHLO in TensorFlow's version of it."""
    dialect: Any = import_module("jaxlib.mlir.dialects.stablehlo")
    passes: Any = import_module("jaxlib.mlir.passmanager").PassManager
    reader: Any = import_module("tensorflow.compiler.mlir.stablehlo.stablehlo")
    backend: Any = import_module("jax._src.lib")._jax.mlir
    dialect.register_stablehlo_passes()
    with module.context:
        spelled_out = passes.parse("builtin.module(func.func(chlo-legalize-to-stablehlo))")
        spelled_out.run(module.operation)
    version = reader.get_smaller_version(
        dialect.get_current_version(), reader.get_current_version()
    )
    made: bytes = backend.serialize_portable_artifact(module, version, False)
    return made
