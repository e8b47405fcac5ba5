"""Layers of a stack are read alone, and come out as those of the stack that is read whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.convert import open_checkpoint, plan
from equipoise.convert.containers import container_module
from equipoise.convert.containers.flax_msgpack import Writer as MsgpackWriter
from equipoise.convert.conversion.plan_types import Step
from equipoise.convert.conversion.stacks import WHOLE_BYTES, cut_stack, stacked_axis
from equipoise.convert.conversion.transform import target_arrays
from equipoise.convert.core.ops import (
    AddAxis,
    DropAxis,
    MergeAxes,
    Op,
    Permute,
    SplitAxis,
    Unstack,
    apply_all,
)
from equipoise.convert.core.rules import Namespace, Rule, StepRule
from equipoise.convert.core.tensor import TensorHeader, TensorRef, array_blocks
from equipoise.fixtures.sparse_models import holds_sparse_files, write_sparse_scanned_umt5


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Op]]:
    """Returns a shape and operations that fit it, of which the last unstacks."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    now, ops = shape, []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["permute", "merge", "split", "add", "drop"]))
        axis = draw(st.integers(0, len(now) - 1))
        op: Op = Permute(tuple(draw(st.permutations(range(len(now))))))
        if kind == "merge" and axis + 1 < len(now):
            op = MergeAxes(axis, now[axis : axis + 2])
        elif kind == "split":
            size = draw(st.sampled_from([one for one in (1, 2, 3, 4) if now[axis] % one == 0]))
            op = SplitAxis(axis, (size, now[axis] // size))
        elif kind == "add":
            op = AddAxis(axis)
        elif kind == "drop" and now[axis] == 1 and len(now) > 1:
            op = DropAxis(axis)
        ops.append(op)
        (now,) = op.shapes((now,))
    axis = draw(st.integers(0, len(now) - 1))
    return shape, [*ops, Unstack(axis, now[axis])]


@given(chains())
@settings(max_examples=300, deadline=None)
def test_a_slice_goes_through_the_operations_as_the_whole(
    chain: tuple[tuple[int, ...], list[Op]],
) -> None:
    """Where an axis is named, the tensors of the whole are those of its slices, in order."""
    shape, ops = chain
    axis = stacked_axis(ops)
    if axis is None:
        return
    stack = np.arange(np.prod(shape)).reshape(shape)
    expected = apply_all(ops, (stack,))
    last = ops[-1]
    assert isinstance(last, Unstack)
    assert shape[axis] == last.count == len(expected)
    for index, whole in enumerate(expected):
        part = np.take(stack, [index], axis)
        (found,) = apply_all([*ops[:-1], Unstack(last.axis, 1)], (part,))
        np.testing.assert_array_equal(found, whole)


def test_an_axis_that_is_mixed_with_others_is_not_cut() -> None:
    assert stacked_axis([MergeAxes(0, (3, 4)), Unstack(0, 12)]) is None
    assert stacked_axis([SplitAxis(1, (2, 3)), Unstack(2, 3)]) is None
    assert stacked_axis([Permute((1, 0))]) is None


STACK = np.random.default_rng(2).normal(size=(5, 7, 3, 2)).astype(np.float32)
OPS = (MergeAxes(2, (3, 2)), Permute((1, 2, 0)), Unstack(0, 7))


def write(module: Any, path: Path, tensors: Mapping[str, Any]) -> None:
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in tensors.items()]
    with module.Writer(path, headers, {}) as writer:
        for name, value in tensors.items():
            writer.write(name, array_blocks(value))


@pytest.fixture(params=["safetensors", "flax_msgpack", "msgpack chunks", "orbax"])
def ref(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TensorRef:
    """Returns the stack in a file of each container whose tensors can be cut."""
    if request.param == "orbax":
        pytest.importorskip("tensorstore")
    if request.param == "msgpack chunks":
        monkeypatch.setattr(MsgpackWriter, "chunk_bytes", 100)
    name = request.param.replace("msgpack chunks", "flax_msgpack")
    module: Any = container_module(name)
    path = tmp_path / getattr(module, "FILENAME", f"weights{module.SUFFIXES[0]}")
    write(module, path, {"first": np.ones(9, np.float16), "stack": STACK})
    found: TensorRef = module.read(path).tensors["stack"]
    return found


@pytest.mark.parametrize("whole_bytes", [1, 300, 500])
def test_parts_of_a_file_are_the_layers_of_the_stack(ref: TensorRef, whole_bytes: int) -> None:
    names = tuple(f"layer{index}" for index in range(7))
    headers = tuple(TensorHeader(name, np.dtype(np.float32), (6, 5)) for name in names)
    rule = StepRule(Rule(("stack",), names, OPS), Namespace.SOURCE, Namespace.TARGET)
    step = Step(("stack",), (rule,), ("stack",), names, headers)
    assert not cut_stack(step, [ref], STACK.nbytes)
    parts = cut_stack(step, [ref], whole_bytes)
    assert len(parts) > 1
    found = {
        header.name: array
        for part in parts
        for header, array in target_arrays(part.step, part.read())
    }
    assert tuple(found) == names
    for index, name in enumerate(names):
        np.testing.assert_array_equal(found[name], STACK[:, index].reshape(5, 6).T)


@pytest.mark.parametrize("to", ["pytorch", "t5x"])
def test_memory_of_a_stack(to: str, tmp_path: Path) -> None:
    """Three stacks of 300 MB, with T5X's scanned layers: no more than a part of one is held."""
    if not holds_sparse_files(tmp_path):
        pytest.skip("the file system stores the zeros of sparse files")
    write_sparse_scanned_umt5(tmp_path / "source", wide=512)
    checkpoint = open_checkpoint(tmp_path / "source")
    steps = plan(checkpoint, to, unproven=True).steps
    large = [one for one in steps if checkpoint[one.sources[0]].nbytes > 2 * WHOLE_BYTES]
    assert len(large) == 3
    (part, *_) = parts = cut_stack(large[0], [checkpoint[large[0].sources[0]]])
    assert sum(len(one.step.targets) for one in parts) == len(large[0].targets)
    tracemalloc.start()
    try:
        targets = [header for header, _ in target_arrays(part.step, part.read())]
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tuple(targets) == part.step.targets
    assert held < WHOLE_BYTES + (30 << 20)
