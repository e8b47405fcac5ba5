"""Errors of the interpreter name the operator, its module and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graphs import assert_same, graph_of, run_eagerly

from equipoise.exporters.lowering.errors import LoweringError

pytestmark = pytest.mark.transformers


def nested(function: Callable[[Any], Any]) -> Any:
    """Returns a model whose module ``inner.deep`` calls a function."""
    from torch import nn

    class Deep(nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleDict({"deep": Deep()})

        def forward(self, x: Any) -> dict[str, Any]:
            return {"y": self.inner["deep"](x)}

    return Outer()


def failure(function: Callable[[Any], Any], x: Any = None) -> LoweringError:
    import torch

    x = torch.tensor([1.0, 0.0, 2.0]) if x is None else x
    graph = graph_of(nested(function), {"x": x})
    with pytest.raises(LoweringError) as caught:
        run_eagerly(graph, {"x": x})
    return caught.value


def test_an_unknown_operator() -> None:
    import torch

    with torch.library._scoped_library("equipoise_tests", "FRAGMENT") as library:
        library.define("odd(Tensor x) -> Tensor")
        library.impl("odd", lambda x: x + 1, "CompositeExplicitAutograd")
        error = failure(lambda x: torch.ops.equipoise_tests.odd(x))
    assert error.operator == "equipoise_tests.odd.default"
    assert "deep" in error.module
    assert "no such operator" in str(error)
    assert error.hint == "add it to a file of exporters/lowering/ops"


def test_a_size_that_depends_on_values() -> None:
    import torch

    error = failure(lambda x: torch.nonzero(x).float().sum())
    assert error.operator == "aten.nonzero.default"
    assert "depends on the values" in str(error)
    assert "deep" in error.module
    masked = failure(lambda x: x[x > 0].sum())
    assert masked.operator.startswith("aten.sum")
    assert "depends on the values" in str(masked)


def test_rows_selected_by_a_mask_are_put_back() -> None:
    """Rows beyond those that the mask selects change nothing, however many it selects."""
    import torch

    class RoutedNorms(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = (torch.nn.LayerNorm(5) for _ in range(2))

        def forward(self, x: torch.Tensor, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
            scattered = x.masked_scatter(chosen[..., None], self.one(x[chosen]))
            scattered = scattered.clone()
            scattered[~chosen] += self.other(x[~chosen])
            return {"scattered": scattered, "selected": x[chosen]}

    torch.manual_seed(0)
    module = RoutedNorms()
    torch.nn.init.normal_(module.one.bias)
    masks = [torch.rand(3, 7) > share for share in (0.5, 1.0, -1.0)]
    inputs = {"x": torch.randn(3, 7, 5), "chosen": masks[0]}
    graph = graph_of(module, inputs)
    for mask in masks:
        given = {**inputs, "chosen": mask}
        found, wanted = run_eagerly(graph, given), module(**given)
        picked = np.asarray(found.pop("selected"))
        count = int(mask.sum())
        assert picked.shape == (21, 5)
        np.testing.assert_array_equal(picked[:count], wanted.pop("selected").numpy())
        assert np.isnan(picked[count:]).all()
        assert_same(found, wanted)


def test_random_numbers() -> None:
    import torch

    assert "random numbers" in str(failure(lambda x: x + torch.rand_like(x)))


def test_an_operator_that_returns_another_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax
    import torch

    from equipoise.exporters.lowering import registry

    graph = graph_of(nested(torch.sin), {"x": torch.randn(3)})
    for wrong in (lambda x: x.astype("int32"), lambda x: x[None]):
        monkeypatch.setitem(registry.registered_functions(), "aten.sin", wrong)
        with pytest.raises(LoweringError, match="PyTorch gives") as caught:
            run_eagerly(graph, {"x": torch.randn(3)})
        assert caught.value.hint == "its function in exporters/lowering/ops is wrong"
    monkeypatch.setitem(registry.registered_functions(), "aten.sin", jax.numpy.cos)
    run_eagerly(graph, {"x": torch.randn(3)})


def test_an_error_of_jax_names_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from equipoise.exporters.lowering import registry

    def broken(x: Any) -> Any:
        raise TypeError("first line\nsecond")

    monkeypatch.setitem(registry.registered_functions(), "aten.sin", broken)
    error = failure(torch.sin)
    assert "TypeError: first line" in str(error)
    assert "second" not in str(error)
    assert isinstance(error.__cause__, TypeError)


def test_an_automatic_cast_is_refused() -> None:
    import torch

    def cast(x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x[None] @ x[:, None]

    found = None
    graph = graph_of(nested(cast), {"x": torch.randn(3)})
    targets = {str(node.target) for node in graph.program.graph.nodes}
    if "wrap_with_autocast" in targets:
        with pytest.raises(LoweringError, match="automatic casts"):
            run_eagerly(graph, {"x": torch.randn(3)})
    else:
        found = run_eagerly(graph, {"x": torch.randn(3)})["y"]
        assert found.dtype.name == "bfloat16"


def test_unused_nodes_are_not_run() -> None:
    import torch

    def unused(x: Any) -> Any:
        torch.nonzero(x)
        return x + 1

    x = torch.tensor([1.0, 0.0])
    assert run_eagerly(graph_of(nested(unused), {"x": x}), {"x": x})["y"].tolist() == [2.0, 1.0]


def test_constants_keep_their_bits() -> None:
    import jax
    import torch

    from equipoise.exporters.lowering.interpreter import to_jax_array

    with jax.enable_x64(True):
        for tensor in (
            torch.tensor([1.5, -2.25]).bfloat16(),
            torch.tensor([[1, 2], [3, 4]]).t(),
            torch.tensor([1 + 2j]).conj(),
            torch.tensor([True, False]),
        ):
            assert to_jax_array(tensor).tolist() == tensor.tolist()
