"""Small integer tensors that carry sizes, fractions of sizes, and sizes that are multiples stay symbolic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from graphs import assert_same, export_callable, graph_of

from equipoise.exporters.lowering.dims import floordiv
from equipoise.exporters.lowering.size_fraction import SizeFraction, as_fraction, divide

pytestmark = pytest.mark.transformers


def sizes(text: str) -> Any:
    from jax import export

    return export.symbolic_shape(text)


def padded(stride: int) -> Any:
    """Returns a module that computes its padding with tensors, as audio codecs do."""
    import torch

    class Padded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in (("kernel", 7), ("stride", stride), ("around", 6)):
                self.register_buffer(name, torch.tensor(value), persistent=False)

        def forward(self, x: Any) -> dict[str, Any]:
            length = x.shape[-1]
            frames = (length - self.kernel + self.around) / self.stride + 1
            frames = torch.ceil(frames).to(torch.int64) - 1
            extra = frames * self.stride + self.kernel - self.around - length
            return {"y": torch.nn.functional.pad(x, (self.around, extra), value=0.5) * 2}

    return Padded()


@pytest.mark.parametrize("stride", [1, 3])
def test_padding_computed_with_tensors(stride: int) -> None:
    import torch

    module, x = padded(stride), torch.randn(2, 40)
    call = export_callable(
        graph_of(module, {"x": x}, {"x": {1: torch.export.Dim.AUTO}}), {"x": {1: "n"}}
    )
    for length in (10, 41, 42, 43):
        x = torch.randn(2, length)
        assert_same(call({"x": x}), module(x))


def test_sizes_indexed_from_a_table_of_shapes() -> None:
    """Sizes are indexed out of a constant, multiplied and added."""
    import torch

    class Table(torch.nn.Module):
        def forward(self, x: Any) -> dict[str, Any]:
            shapes = torch.tensor([[2, 3], [1, 4]])
            areas = shapes.prod(1)
            height, width = shapes[0].tolist()
            total = areas.sum().item()
            grid = torch.arange(height)[:, None] + torch.arange(width)
            return {"y": x.sum(1) + grid.sum() + torch.arange(total).sum()}

    x = torch.randn(2, 12)
    graph = graph_of(Table(), {"x": x}, {"x": {0: torch.export.Dim.AUTO}})
    call = export_callable(graph, {"x": {0: "batch"}})
    x = torch.randn(5, 12)
    assert_same(call({"x": x}), Table()(x))


def test_a_size_that_depends_on_input_values_is_an_error() -> None:
    import torch

    from equipoise.exporters.lowering.errors import LoweringError

    class Long(torch.nn.Module):
        def forward(self, x: Any, count: Any) -> dict[str, Any]:
            length = count.sum().item()
            torch._check(length >= 2)
            torch._check(length <= 8)
            return {"y": torch.zeros(length) + x.sum()}

    inputs = {"x": torch.randn(3), "count": torch.tensor([2, 3])}
    with pytest.raises((LoweringError, TypeError)):
        export_callable(graph_of(Long(), inputs), {})


def test_fractions() -> None:
    import jax

    assert as_fraction(3.0) == SizeFraction(3, 1)
    assert as_fraction(0.5) is None
    half = divide(7, 2)
    assert half == SizeFraction(7, 2)
    assert [math.floor(half), math.ceil(half)] == [3, 4]
    assert [math.floor(-half), math.ceil(-half)] == [-4, -3]
    assert (half + 1, half - 1, 1 - half, half * 2) == (
        SizeFraction(9, 2),
        SizeFraction(5, 2),
        SizeFraction(-5, 2),
        SizeFraction(14, 2),
    )
    assert half / 3 == SizeFraction(7, 6)
    assert divide(7, 0) is None
    assert divide(7, 0.5) is None
    with jax.enable_x64(True):
        numbers = [half * 0.5, half / 0.5, 1 / half, half**2]
        comparisons = [half < 4, half <= 3, half > 3, half >= 4]
    assert [float(one) for one in numbers] == pytest.approx([1.75, 7.0, 2 / 7, 12.25])
    assert [bool(one) for one in comparisons] == [True, False, True, False]


def test_a_quotient_of_a_quotient_is_one_quotient() -> None:
    from equipoise.exporters.lowering.dims import evaluate

    (n,) = sizes("n")
    once = floordiv(n - 10, 5) + 1
    twice = floordiv(once - 3, 2) + 1
    assert str(twice) == "floordiv(n - 20, 10) + 1"
    for length in range(10, 200):
        assert evaluate(twice, {"n": length}) == ((length - 10) // 5 + 1 - 3) // 2 + 1
    assert str(floordiv(2 * once, 3)) == "floordiv(2*floordiv(n - 10, 5) + 2, 3)"


@pytest.mark.parametrize(
    "layers",
    [
        [(10, 5, 0), (3, 2, 0), (1, 1, 0), (3, 1, 1), (2, 2, 0), (1, 1, 0), (2, 1, 0), (3, 2, 1)],
        [(7, 2, 3), (3, 2, 1), (5, 3, 2)],
    ],
)
def test_stacked_convolutions(layers: list[tuple[int, int, int]]) -> None:
    """Stacked convolutions with kernel, stride and padding, with and without leftover columns."""
    import torch

    class Stack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(
                torch.nn.Conv1d(3 if index else 1, 3, kernel, stride=stride, padding=padding)
                for index, (kernel, stride, padding) in enumerate(layers)
            )

        def forward(self, x: Any) -> dict[str, Any]:
            for layer in self.layers:
                x = torch.nn.functional.gelu(layer(x))
            return {"y": x.transpose(1, 2).flatten(1)}

    torch.manual_seed(0)
    module, x = Stack(), torch.randn(2, 1, 400)
    axes = {"x": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}}
    call = export_callable(graph_of(module, {"x": x}, axes), {"x": {0: "batch", 2: "length"}})
    for length in (400, 451, 503):
        x = torch.randn(3, 1, length)
        assert_same(call({"x": x}), module(x))


def test_patches_of_images_are_multiples() -> None:
    """The number of patches is a multiple: four patches are merged into one."""
    from equipoise.exporters.shapes.substitutions import MultipleOf, Offset, find_multiples

    (patches, limits) = sizes("p, limits")
    each = patches // (limits - 1)
    traced = {"p": 32, "limits": 3}
    found = find_multiples([each * limits - each], "", {}, traced)
    assert found == {"p": MultipleOf(16, "limits", 1), "limits": Offset(1)}
    assert found["p"].describe() == "is 16*(limits - 1)"
    assert found["limits"].describe() == ""
    import sympy

    symbol = sympy.Symbol("s0")
    assert str(found["p"].expression("p", symbol)) == "16*limits_beyond_1"
    assert str(found["limits"].expression("limits", symbol)) == "limits_beyond_1 + 1"
    assert str(MultipleOf(4).expression("p", symbol)) == "4*p_of_each"
    question = "Cannot divide: The remainder mod(64*p*n, - 256) should be 0."
    assert find_multiples([], question, {}, {"p": 32, "n": 7}) == {"p": MultipleOf(4)}
    assert find_multiples([], question, {}, {"p": 30, "n": 7}) == {}
    assert find_multiples([each], "", {}, {"p": 31, "limits": 3}) == {}
    assert MultipleOf(4).describe() == "is a multiple of 4"


def test_sizes_that_pytorch_substitutes_for_each_other() -> None:
    from equipoise.exporters.shapes.substitutions import EqualTo, find_equal_sizes

    text, mask, faces = sizes("text, mask, faces")
    traced = {"text": 12, "mask": 12, "faces": 4}
    assert find_equal_sizes([text, mask], {}, traced) == {"mask": EqualTo("text")}
    assert find_equal_sizes([text + 4, text + faces], {}, traced) == {"faces": EqualTo(4)}
    assert find_equal_sizes([text, faces], {}, traced) == {}
    assert find_equal_sizes([text, 2 * mask], {}, traced) == {}
    assert find_equal_sizes([text, mask], {"mask": EqualTo("text")}, traced) == {}


def test_data_values_are_not_folded_as_sizes() -> None:
    from jax import numpy as jnp

    from equipoise.exporters.lowering.shape_values import fold_constant

    found = fold_constant(jnp.asarray([[2.0, 3.0]]))
    assert found is not None
    assert found.tolist() == [[2, 3]]
    assert fold_constant(jnp.asarray([0.5])) is None
    assert fold_constant(jnp.zeros(65, int)) is None
    assert fold_constant(np.zeros(3)) is None
