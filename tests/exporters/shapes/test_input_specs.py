"""Symbolic sizes of inputs: their names, their relations and their bounds."""

from __future__ import annotations

from typing import Any

import pytest
from graphs import graph_of

pytestmark = pytest.mark.transformers


def pair(dynamic: Any, size: tuple[int, ...] = (4, 6), other: tuple[int, ...] = (4,)) -> Any:
    import torch

    class Pair(torch.nn.Module):
        def forward(self, x: Any, ids: Any) -> dict[str, Any]:
            return {"x": x * 2, "ids": ids + 1}

    inputs = {"x": torch.randn(size), "ids": torch.zeros(other, dtype=torch.int64)}
    return graph_of(Pair(), inputs, dynamic)


def specs(graph: Any, axes: Any, *, least: bool = False) -> dict[str, Any]:
    from equipoise.exporters.shapes.input_specs import input_specs

    return input_specs(graph.program, graph.names, axes, least=least).shapes


def constraints(found: dict[str, Any]) -> set[str]:
    """Returns the constraints in the scope of the symbolic sizes."""
    from jax import export

    size = next(one for spec in found.values() for one in spec.shape if export.is_symbolic_dim(one))
    return {str(one.debug_str) for one in size.scope._explicit_constraints}


def test_sizes_are_named_after_their_axes() -> None:
    from torch.export import Dim

    batch = Dim("anything", min=2, max=100)
    graph = pair({"x": {0: batch, 1: Dim("length")}, "ids": {0: batch}})
    found = specs(graph, {"x": {0: "batch", 1: "sequence_length"}, "ids": {0: "other"}})
    assert str(found["x"].shape) == "(batch, sequence_length)"
    assert str(found["ids"].shape) == "(batch,)"
    assert (found["x"].dtype.name, str(found["ids"].dtype)) == ("float32", "int32")


def test_an_unnamed_axis_is_named_after_its_input() -> None:
    from torch.export import Dim

    graph = pair({"x": {0: Dim("a"), 1: Dim("b")}, "ids": {0: Dim("c")}})
    found = specs(graph, {"x": {1: "same"}, "ids": {0: "same"}})
    assert str(found["x"].shape) == "(x_0, same)"
    assert str(found["ids"].shape) == "(ids_0,)"


def test_static_sizes_stay_static() -> None:
    found = specs(pair(None), {})
    assert found["x"].shape == (4, 6)


def test_a_size_that_is_computed_from_another() -> None:
    from torch.export import Dim

    half = Dim("half", min=1, max=50)
    graph = pair({"x": {0: half, 1: 2 * half}, "ids": {}}, (4, 8))
    found = specs(graph, {"x": {0: "rows"}})
    assert str(found["x"].shape) == "(rows, 2*rows)"


def test_a_size_that_occurs_only_in_multiples() -> None:
    from torch.export import Dim

    graph = pair({"x": {0: 2 * Dim("half", min=1, max=50)}, "ids": {}})
    assert str(specs(graph, {"x": {0: "rows"}})["x"].shape) == "(2*part_0, 6)"


def test_bounds_of_a_size() -> None:
    """Bounds that PyTorch derived are always stated; its default minimum of 2 only on request."""
    from torch.export import Dim

    graph = pair({"x": {0: Dim("rows", min=3, max=100), 1: Dim("free")}, "ids": {}})
    axes = {"x": {0: "rows", 1: "free"}}
    known = {"rows <= 100", "rows >= 3"}
    assert constraints(specs(graph, axes)) == known
    least = constraints(specs(graph, axes, least=True))
    assert known <= least <= {*known, "free >= 2"}


@pytest.mark.parametrize(
    ("name", "narrow"),
    [("int64", "int32"), ("float64", "float32"), ("complex128", "complex64")]
    + [(name, name) for name in ("bool", "int32", "float16", "bfloat16", "float32")],
)
def test_inputs_and_outputs_have_32_bits(name: str, narrow: str) -> None:
    import numpy as np
    import torch

    from equipoise.exporters.shapes import input_specs

    assert np.dtype(input_specs.io_dtype(getattr(torch, name))).name == narrow


def test_a_size_that_may_be_empty_is_a_symbol_minus_one() -> None:
    """A size that may be 0 is a symbolic size minus 1, because JAX's sizes are at least 1."""
    from torch.export import Dim

    from equipoise.exporters.shapes.input_specs import input_specs, io_signature

    graph = pair({"x": {0: Dim("a", max=9), 1: Dim("b")}, "ids": {0: Dim("c")}})
    axes = {"x": {0: "past", 1: "sequence"}, "ids": {0: "batch"}}
    found = input_specs(
        graph.program, graph.names, axes, least=True, empty=frozenset({"past"})
    ).shapes
    assert str(found["x"].shape) == "(past_plus_1 - 1, sequence)"
    assert (
        "past_plus_1 - 1 <= 9"
        in input_specs(graph.program, graph.names, axes, empty=frozenset({"past"})).constraints
    )
    assert io_signature(graph.program, graph.names, axes) == {
        "graph_inputs": {
            "x": {"dtype": "float32", "shape": ["past", "sequence"]},
            "ids": {"dtype": "int32", "shape": ["batch"]},
        },
        "graph_outputs": {
            "x": {"dtype": "float32", "shape": ["past", "sequence"]},
            "ids": {"dtype": "int32", "shape": ["batch"]},
        },
    }
