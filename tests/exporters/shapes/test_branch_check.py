"""Programs of models that branch on a size are right on both sides of the branch, or note which side is supported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

from graphs import make_exporter

from equipoise.exporters.lowering.program import lower
from equipoise.exporters.shapes.branch_check import CheckedProgram, check_size_branches
from equipoise.exporters.shapes.constraint_search import LoweredGraph, export_with_constraints
from equipoise.exporters.shapes.input_specs import limit_notes
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.torch_export import export_program

pytestmark = [
    pytest.mark.transformers,
    # PyTorch calls what it deprecates.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]

Forward = Callable[[Any], Any]


def padded(x: Any) -> Any:
    """Pads an odd length to an even one."""
    if x.shape[1] % 2:
        x = torch.nn.functional.pad(x, (0, x.shape[1] % 2))
    return x.unflatten(1, (-1, 2)).sum(-1)


def trimmed(x: Any) -> Any:
    """Makes two positions for each pair and cuts the excess."""
    repeated = x[:, ::2].repeat_interleave(2, 1)
    if repeated.shape[1] > x.shape[1]:
        repeated = repeated[:, : x.shape[1]]
    return x + repeated


def doubled(x: Any) -> Any:
    """Computes something else for long inputs."""
    return x * 2 if x.shape[1] > 12 else x


def table(x: Any) -> Any:
    """Has a table of thirty positions."""
    if x.shape[1] > 30:
        raise ValueError("too long")
    return x + torch.arange(x.shape[1])


def parity(x: Any) -> Any:
    """Branches on the parity of the length without an effect on the rest."""
    return x.flip(1) if x.shape[1] % 2 else x + 1


def shortcut(x: Any) -> Any:
    """Computes the same on both sides of a branch."""
    return x.sum(1, keepdim=True) if x.shape[1] > 1 else x


def first_ten(x: Any) -> Any:
    """Takes the first ten columns at most; ``min`` is a branch, too."""
    return x[:, : min(x.shape[1], 10)].cumsum(1)


def pooled(x: Any) -> Any:
    """Branches on the size that is left of a long input."""
    x = x.unfold(1, 40, 20).mean(-1)
    return x + 1 if x.shape[1] > 99 else x


def two_limits(x: Any) -> Any:
    """Branches twice, which makes two limits."""
    return x + 1 if 3 < x.shape[1] < 20 else x


def two_sizes(x: Any) -> Any:
    """Branches on a condition of two sizes."""
    return x.mT @ x if x.shape[0] < x.shape[1] else x @ x.mT


def plain(x: Any) -> Any:
    """Does not branch."""
    return x.cumsum(1)


def checked_program(
    forward: Forward, rows: int, length: int
) -> tuple[ExportableModel, CheckedProgram]:
    class Model(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return {"y": forward(x)}

    model = Model().eval()
    tensors = {"x": sample(rows, length)}
    axes = {"x": {0: "batch", 1: "length"}}
    source = ExportableModel(model, model, tensors, axes, ("y",))
    return source, check_size_branches(source, export_program)


def sample(rows: int, length: int) -> Any:
    return torch.randn(rows, length, generator=torch.Generator().manual_seed(length))


def limits(source: ExportableModel, found: CheckedProgram) -> list[str]:
    notes = limit_notes(found.limits, found.program, tuple(source.tensors), source.axes)
    assert all(one.startswith("sizes: ") and f"({__name__}:" in one for one in notes)
    return [one.removeprefix("sizes: ").partition(" (")[0] for one in notes]


def program(source: ExportableModel, found: CheckedProgram) -> tuple[Any, list[str]]:
    """Returns the JAX program and its notes."""
    graph = lower(found.program, tuple(source.tensors))
    with jax.enable_x64(True):
        exported, notes = export_with_constraints(
            LoweredGraph(graph, source, found.limits), make_exporter(graph)
        )

    def call(x: Any) -> Any:
        with jax.enable_x64(True):
            return exported.call({"x": np.asarray(x)})["y"]

    return call, notes


@pytest.mark.parametrize("length", [6, 7])
@pytest.mark.parametrize("forward", [padded, trimmed, shortcut, first_ten, plain])
def test_one_program_for_both_sides(forward: Forward, length: int) -> None:
    """The program is right on both sides, whichever side the example is on."""
    source, found = checked_program(forward, 3, length)
    assert limits(source, found) == []
    call, notes = program(source, found)
    assert not [one for one in notes if "length" in one and ">= 2" not in one]
    for rows, other in ((3, length), (2, 8), (5, 9), (2, 31)):
        x = sample(rows, other)
        np.testing.assert_allclose(call(x), forward(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("forward", "length", "expected", "inside", "beyond"),
    [
        (doubled, 5, ["length <= 12"], (2, 12), (13, 40)),
        (doubled, 15, ["length >= 13"], (13, 700), (12, 2)),
        (table, 5, ["length <= 30"], (2, 30), (31, 64)),
        (parity, 6, ["mod(length, 2) == 0"], (2, 40), (3, 7)),
        (pooled, 60, ["length <= 2019"], (60, 2019), (2020, 5000)),
        (pooled, 2500, ["length >= 2020"], (2020, 2519), (2019, 60)),
        (two_limits, 6, ["length >= 4", "length <= 19"], (4, 19), (3, 20)),
    ],
)
def test_limits_are_noted_and_enforced(
    forward: Forward,
    length: int,
    expected: list[str],
    inside: tuple[int, ...],
    beyond: tuple[int, ...],
) -> None:
    """If no program is right on both sides, the program notes its limit and refuses other sizes."""
    source, found = checked_program(forward, 3, length)
    assert sorted(limits(source, found)) == sorted(expected)
    call, notes = program(source, found)
    for text in expected:
        assert any(one.startswith(f"sizes: {text} ({__name__}:") for one in notes)
    for other in inside:
        x = sample(4, other)
        np.testing.assert_allclose(call(x), forward(x), rtol=1e-5, atol=1e-5)
    for other in beyond:
        with pytest.raises(ValueError, match="Input shapes do not match"):
            call(sample(4, other))


def test_a_condition_of_two_sizes() -> None:
    source, found = checked_program(two_sizes, 3, 6)
    assert limits(source, found) == ["batch <= length - 1"]
    call, _ = program(source, found)
    np.testing.assert_allclose(call(sample(4, 9)), two_sizes(sample(4, 9)), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="Input shapes do not match"):
        call(sample(9, 4))


def test_a_model_that_fails_at_all_probe_sizes_has_no_limits() -> None:
    """A model that fails at every other size reveals nothing about the branch."""
    seen = []

    def fails_elsewhere(x: Any) -> Any:
        if not torch.compiler.is_exporting():
            seen.append(tuple(x.shape))
            if tuple(x.shape) != (3, 6):
                raise ValueError("only these")
        return x * 2 if x.shape[1] > 12 else x

    source, found = checked_program(fails_elsewhere, 3, 6)
    assert limits(source, found) == []
    assert len(set(seen)) > 1


def test_a_random_model_has_no_limits() -> None:
    """If program and model differ at the example itself, comparing them at other sizes proves nothing."""
    source, found = checked_program(
        lambda x: torch.rand(x.shape) if x.shape[1] > 12 else torch.rand_like(x), 3, 6
    )
    assert limits(source, found) == []


def test_sizes_too_large_to_try_are_a_limit() -> None:
    source, found = checked_program(lambda x: x * 2 if x.shape[1] > 4096 else x * 3, 3, 6)
    assert limits(source, found) == ["length <= 4096"]


def test_axes_of_one_name_are_one_size() -> None:
    """Axes with one name change together: a mask is always as long as its tokens."""

    class Masked(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, mask: Any) -> Any:
            if mask.shape[1] < x.shape[1]:
                mask = mask.new_ones(x.shape)
            return {"y": x * mask[:, : x.shape[1]] * 2 if x.shape[1] < 9 else x}

    model = Masked().eval()
    tensors = {"x": sample(3, 6), "mask": torch.ones(3, 6)}
    axes = {name: {0: "batch", 1: "length"} for name in tensors}
    source = ExportableModel(model, model, tensors, axes, ("y",))
    assert limits(source, check_size_branches(source, export_program)) == ["length <= 8"]


def test_state_grown_by_longer_inputs_is_restored() -> None:
    """A table that grows when the model is called with longer inputs is restored before the export."""

    class Growing(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.longest = 8
            self.register_buffer("table", torch.arange(8.0))

        def forward(self, x: Any) -> Any:
            if x.shape[1] > self.longest:
                self.longest = x.shape[1]
                self.table = torch.arange(x.shape[1]) * 2.0
            return {"y": x + self.table[: x.shape[1]]}

    model = Growing().eval()
    source = ExportableModel(
        model, model, {"x": sample(3, 6)}, {"x": {0: "batch", 1: "length"}}, ("y",)
    )
    found = check_size_branches(source, export_program)
    assert limits(source, found) == ["length <= 8"]
    assert (model.longest, model.table.tolist()) == (8, list(range(8)))
    assert dict(found.program.named_buffers())["table"].tolist() == list(range(8))
