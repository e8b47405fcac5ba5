"""Sizes that are always equal are found from sampled values, and stated in a form that JAX accepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import assert_same, export_callable, graph_of, make_exporter

from equipoise.exporters.lowering.dims import evaluate
from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.identities import find_identities
from equipoise.exporters.target import ExportableModel

pytestmark = pytest.mark.transformers


def sizes(text: str, constraints: tuple[str, ...] = ()) -> tuple[Any, ...]:
    export = pytest.importorskip("jax.export")
    found: tuple[Any, ...] = export.symbolic_shape(text, constraints=constraints)
    return found


def test_the_value_of_a_size() -> None:
    (size,) = sizes("3*n*floordiv(n, 4) + mod(n, 5)^2 - max(n, 7) + min(m, 2)")
    assert evaluate(size, {"n": 9, "m": 1}) == 3 * 9 * 2 + 4**2 - 9 + 1
    assert evaluate(6, {}) == 6


def test_equal_sizes_are_stated() -> None:
    up, padded, other, _ = sizes("- floordiv(- n, 64), n + mod(- n, 64), floordiv(n, 64), n")
    assert find_identities([up, 4, other], [], {}) == []
    (identity,) = find_identities([64 * up, padded, other], [], {})
    left, right = identity.split(" == ")
    found, again = sizes(f"{left}, {right}")
    assert all(evaluate(found - again, {"n": n}) == 0 for n in range(1, 300))
    # With the constraint JAX sees it, and there is nothing left to state.
    one, two = sizes("- 64*floordiv(- n, 64), n + mod(- n, 64)", (identity,))
    assert one == two
    assert find_identities([one, two], [identity], {}) == []


def test_sizes_equal_up_to_a_length_need_a_constraint() -> None:
    tail, length = sizes("- max(- n + 512, 0) + 512, n")
    assert find_identities([tail, length], [], {"n": 12}) == ["n <= 512"]
    tail_size, again = sizes("max(8*floordiv(n, 512) - 7, 0) + 7, 8*floordiv(n, 512)")
    assert find_identities([tail_size, again], [], {"n": 2048}) == ["n >= 512"]
    assert find_identities([tail_size, again], [], {"n": 40}) == []


def test_different_symbols_are_never_equal() -> None:
    one, other = sizes("n*floordiv(m - 127, 384), 2*n")
    assert find_identities([one, other], ["m >= 895"], {"m": 1000, "n": 2}) == []


def test_quotients_of_two_sizes_are_not_stated() -> None:
    one, other, third = sizes("floordiv(64*n, n), 64*floordiv(n, 64) + mod(n, 64), n")
    assert find_identities([one, 64], [], {}) == []
    assert find_identities([other, third], [], {}) == ["mod(n, 64) == - 64*floordiv(n, 64) + n"]


def test_sizes_whose_equality_only_values_show() -> None:
    """Two strides in a row and a slice to the remaining length, at a length that was not traced."""
    torch = pytest.importorskip("torch")
    import jax

    class Strides(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv1d(1, 3, 2, stride=2)
            self.second = torch.nn.Conv1d(3, 2, 4, stride=4)

        def forward(self, wave: Any) -> dict[str, Any]:
            found = self.second(self.first(wave))
            return {"y": found + wave[:, :, : wave.shape[2] // 8]}

    torch.manual_seed(0)
    model = Strides()
    tensors = {"wave": torch.randn(2, 1, 40)}
    axes = {"wave": {0: "batch", 2: "length"}}
    free = {"wave": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}}
    lowered = graph_of(model, tensors, free)
    graph = LoweredGraph(lowered, ExportableModel(model, model, tensors, axes, ("y",)))

    with jax.enable_x64(True):
        program, notes = export_with_constraints(graph, make_exporter(lowered))
        assert all("length <" not in note for note in notes)
        for length in (40, 27, 96):
            wave = torch.randn(3, 1, length)
            found = program.call({"wave": wave.numpy()})
            with torch.no_grad():
                assert_same(found, model(wave))


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_cumulative_extremes_along_a_symbolic_axis(name: str) -> None:
    torch = pytest.importorskip("torch")

    class Extremes(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any, count: Any) -> dict[str, Any]:
            values, indices = getattr(torch, name)(x, 1)
            return {
                "values": values,
                "places": indices,
                "counts": getattr(torch, name)(count, 1)[0],
            }

    free = {one: {1: torch.export.Dim.DYNAMIC} for one in ("x", "count")}
    inputs = {"x": torch.randn(3, 6, 2), "count": torch.arange(6).reshape(1, 6) % 4}
    program = export_callable(
        graph_of(Extremes(), inputs, free), {"x": {1: "n"}, "count": {1: "m"}}
    )
    x = torch.tensor([1.0, 3.0, 2.0, 3.0, float("nan"), 5.0, 0.0]).reshape(1, 7, 1).expand(3, 7, 2)
    given = {"x": x.contiguous(), "count": torch.tensor([[3, 1, 1, 4, 0]])}
    found = program(given)
    for output, wanted in Extremes()(**given).items():
        np.testing.assert_array_equal(np.asarray(found[output]), wanted.numpy())
