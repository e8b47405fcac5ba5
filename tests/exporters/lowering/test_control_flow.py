"""Loops and branches of a graph (``scan``, ``while_loop``, ``cond``) compute what PyTorch computes."""

from __future__ import annotations

from typing import Any

import pytest
from graphs import assert_same, export_callable, graph_of, run_eagerly

pytestmark = pytest.mark.transformers


def test_a_scan_over_a_sequence_of_any_length() -> None:
    import torch
    from torch._higher_order_ops.scan import scan
    from torch.export import Dim

    class Recurrence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decay = torch.nn.Parameter(torch.tensor([0.5, 0.25]))

        def forward(self, x: Any) -> dict[str, Any]:
            decay = torch.nn.functional.softplus(self.decay)

            def step(state: Any, piece: Any) -> Any:
                state = state * decay + piece
                return state, torch.nn.functional.silu(state)

            state, outputs = scan(step, torch.zeros(2), x, dim=0)
            return {"state": state, "outputs": outputs}

    model = Recurrence()
    graph = graph_of(model, {"x": torch.randn(5, 2)}, {"x": {0: Dim.DYNAMIC}})
    program = export_callable(graph, {"x": {0: "length"}})
    for length in (5, 3):
        x = torch.randn(length, 2)
        with torch.no_grad():
            assert_same(program({"x": x}), model(x))
    with torch.no_grad():
        assert_same(run_eagerly(graph, {"x": x}), model(x))


def test_a_branch_follows_its_condition() -> None:
    import torch

    class Branch(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> dict[str, Any]:
            return {
                "z": torch.cond(
                    x.sum() > 0,
                    lambda a, b: a - b,
                    lambda a, b: torch.tril(a * b[:, None])[0],
                    (x, y),
                )
            }

    model = Branch()
    for sign in (1, -1):
        inputs = {"x": sign * torch.rand(3), "y": torch.randn(3)}
        assert_same(run_eagerly(graph_of(model, inputs), inputs), model(**inputs))


def test_a_loop_ends_when_its_condition_is_false() -> None:
    import torch
    from torch._higher_order_ops.while_loop import while_loop

    class Loop(torch.nn.Module):
        def forward(self, x: Any) -> dict[str, Any]:
            count, x = while_loop(
                lambda count, x: x.sum() < 100,
                lambda count, x: (count + 1, x * 1.5),
                (torch.tensor(0), x),
            )
            return {"count": count, "x": x}

    inputs = {"x": torch.rand(3)}
    assert_same(run_eagerly(graph_of(Loop(), inputs), inputs), Loop()(**inputs))
