"""The search states a minimum for sizes that JAX asks about, and leaves others at 1."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("jax")

from graphs import graph_of, make_exporter

from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.input_specs import InputSpecs
from equipoise.exporters.target import ExportableModel


class Stretched(torch.nn.Module):  # type: ignore[misc]
    """Resamples to a seventh of the height, which must not be empty."""

    def forward(self, pixels: Any) -> dict[str, Any]:
        small = torch.nn.functional.avg_pool2d(pixels, 7)
        wide = torch.nn.functional.interpolate(small, size=pixels.shape[2:], mode="bilinear")
        return {"y": wide + pixels}


def test_only_sizes_that_jax_asks_about_get_a_minimum() -> None:
    import jax
    import numpy as np

    auto = torch.export.Dim.AUTO
    tensors = {"pixels": torch.randn(3, 2, 28, 42)}
    lowered = graph_of(Stretched(), tensors, {"pixels": {0: auto, 2: auto, 3: auto}})
    axes = {"pixels": {0: "batch", 2: "height", 3: "width"}}
    model = Stretched()
    graph = LoweredGraph(lowered, ExportableModel(model, model, tensors, axes, ("y",)))

    with jax.enable_x64(True):
        program, notes = export_with_constraints(graph, make_exporter(lowered))
        assert {note.split(" >= ")[0] for note in notes} == {"sizes: height", "sizes: width"}
        for size in ((1, 2, 14, 21), (2, 2, 35, 30)):
            pixels = torch.randn(size)
            found = program.call({"pixels": pixels.numpy()})
            np.testing.assert_allclose(found["y"], model(pixels)["y"].numpy(), rtol=0, atol=1e-6)


class EverySecondColumn(torch.nn.Module):  # type: ignore[misc]
    """Repeats every second column: the worked example of ``constraint_search``."""

    def forward(self, x: Any) -> dict[str, Any]:
        return {"y": x[:, ::2].repeat_interleave(2, 1)[:, : x.shape[1]] + x}


def test_worked_example() -> None:
    import jax
    import numpy as np

    auto = torch.export.Dim.AUTO
    tensors = {"x": torch.randn(3, 8)}
    model = EverySecondColumn()
    lowered = graph_of(model, tensors, {"x": {0: auto, 1: auto}})
    source = ExportableModel(model, model, tensors, {"x": {0: "batch", 1: "length"}}, ("y",))
    stated = []

    def export(specs: InputSpecs) -> Any:
        stated.append([one for one in specs.constraints if "==" in one])
        return make_exporter(lowered)(specs)

    with jax.enable_x64(True):
        program, notes = export_with_constraints(LoweredGraph(lowered, source), export)
        assert stated[0] == []
        assert stated[-1] == ["floordiv(length + 1, 2) == floordiv(length - 1, 2) + 1"]
        assert notes == []
        for length in (2, 7, 8, 19):
            x = torch.randn(2, length)
            found = program.call({"x": x.numpy()})
            np.testing.assert_array_equal(found["y"], model(x)["y"].numpy())
