"""Sizes stay symbolic through ``len``, ``int``, ``range`` and ``list``, and results are right at other sizes than the traced ones."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from equipoise.exporters.patches.symbolic_builtins import BatchRows, symbolic_builtins

pytestmark = pytest.mark.transformers

MODULE_NAME = "transformers.models.of_a_test"
SOURCE = """
import torch

class Model(torch.nn.Module):
    def forward(self, x, counts):
        return {"y": BODY}

def together(parts):
    return torch.cat(parts, dim=0)

def pieces(x):
    return [x[:, start : start + 4].sum() for start in range(0, x.shape[1], 4)]

class Pooled(torch.nn.Module):
    def forward(self, x, counts):
        return {"y": torch.nn.MaxPool1d(2, stride=2)(x[:, None])[:, 0]}
"""


@pytest.fixture
def model() -> Iterator[Callable[[str], Any]]:
    """Returns a model that evaluates an expression, defined in a module like those of transformers."""

    def make(body: str, name: str = "Model") -> Any:
        module = types.ModuleType(MODULE_NAME)
        exec(SOURCE.replace("BODY", body), module.__dict__)  # noqa: S102
        sys.modules[MODULE_NAME] = module
        return getattr(module, name)()

    yield make
    sys.modules.pop(MODULE_NAME, None)


def program(module: Any, inputs: tuple[Any, ...]) -> Any:
    auto = torch.export.Dim.AUTO
    shapes = ({0: auto, 1: auto}, {0: auto})
    with symbolic_builtins(module):
        return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)


def inputs(rows: int, length: int) -> tuple[Any, Any]:
    torch.manual_seed(rows)
    return torch.randn(rows, length), torch.arange(rows) + 1


@pytest.mark.parametrize(
    "body",
    [
        "x.sum() * len(x)",
        "x.sum() * int(x.shape[0])",
        "torch.cat(list(x[..., None].expand(-1, -1, 3)), dim=0)",
        "together([one.reshape(-1, one.shape[-1]) for one in x.split(counts.tolist())])",
        "sum(pieces(x[:, :3]))",
        "torch.stack([x[0], x[1]]) if isinstance([1], list) and isinstance(1, int) else None",
        "x.view(*[int(size) for size in (2, 3)][:0], *list((-1, x.shape[1])))",
    ],
)
def test_other_sizes(model: Callable[[str], Any], body: str) -> None:
    module = model(body)
    exported = program(module, inputs(3, 5)).module()
    for rows, length in ((3, 5), (4, 7)):
        x, counts = inputs(rows, length)
        if "split" in body:
            x = torch.randn(int(counts.sum()), length)
        torch.testing.assert_close(exported(x, counts), module(x, counts))


def test_pooling_over_a_symbolic_length(model: Callable[..., Any]) -> None:
    module = model("x", "Pooled")
    exported = program(module, inputs(3, 6)).module()
    for length in (6, 9):
        given = inputs(4, length)
        torch.testing.assert_close(exported(*given), module(*given))


@pytest.mark.parametrize(
    "body",
    [
        "torch.stack(list(x[..., None].expand(-1, -1, 3)))",
        "torch.cat(list(x[..., None].expand(-1, -1, 3)), dim=1)",
        "torch.cat([one + 1 for one in x.split(counts.tolist())], dim=0)",
        "torch.cat([one.reshape(-1, 2) for one in x.split(counts.tolist())], dim=0)",
        "torch.cat([one.shape[0] * x for one in x.split(counts.tolist())], dim=0)",
    ],
)
def test_batch_rows_can_only_be_stacked(model: Callable[[str], Any], body: str) -> None:
    with pytest.raises(Exception, match=r"parts of a batch|Rows"):
        program(model(body), inputs(3, 6))


def test_builtins_are_restored(model: Callable[[str], Any]) -> None:
    module = model("x")
    before = (torch.cat, torch.Tensor.split, torch.Tensor.tolist, torch.nn.Module.to)
    with symbolic_builtins(module):
        assert torch.cat is not before[0]
    assert (torch.cat, torch.Tensor.split, torch.Tensor.tolist, torch.nn.Module.to) == before
    assert "len" not in vars(sys.modules[MODULE_NAME])


def test_builtins_without_symbolic_sizes(model: Callable[[str], Any]) -> None:
    """Without symbolic sizes the builtins behave as in Python."""
    module = model(
        "torch.cat(list(x.split(counts.tolist()))) * len(x) * int(2.7) * len([*range(1, 6, 2)])"
    )
    x, counts = torch.randn(6, 2), torch.tensor([1, 2, 3])
    expected = module(x, counts)
    with symbolic_builtins(module):
        torch.testing.assert_close(module(x, counts), expected)


def test_rows_have_no_length() -> None:
    rows = BatchRows(torch.zeros(4, 3))
    assert rows.shape[-1] == 3
    with pytest.raises(TypeError, match="not all known"):
        len(rows.shape)
    with pytest.raises(TypeError, match="not all known"):
        rows.shape[0]
