"""What a program is worth on the other side of the branches that its model took by sizes.

The side that the example lies on may do for both: what fills up a length adds nothing where nothing is missing. So the program
is compared with the model on each other side, at the sizes nearest to the example's; where they differ, it is made
once more with that branch taken the other way. What is left are limits of the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest import mock

from equipoise.exporters.shapes.probe_sizes import Sizes, probe_sizes, simplify_condition
from equipoise.exporters.shapes.size_branches import SizeBranch, record_branches, traced_sizes
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.torch_export import input_nodes

MAX_INPUT_GROWTH = 64
"""Inputs of as many times the example's elements are tried."""
MAX_FLIPPED_BRANCHES = 4
"""As many branches are taken the other way."""
RELATIVE_TOLERANCE = 1e-5
"""Program and model use the same kernels: what they differ by more, as a part of the largest number, is no rounding."""


@dataclass(frozen=True)
class SizeLimit:
    """What has to be true of the sizes.

    Attributes:
        condition: It, in SymPy.
        place: Module and line of the code of the model that has another way beyond it.
    """

    condition: Any
    place: str


@dataclass(frozen=True)
class CheckedProgram:
    """A program of ``torch.export``, and within which sizes it is the model.

    Attributes:
        program: The ``ExportedProgram``.
        limits: Beyond them it is not the model, or could not be tried.
    """

    program: Any
    limits: tuple[SizeLimit, ...]


def check_size_branches(
    source: ExportableModel, make: Callable[[ExportableModel], Any]
) -> CheckedProgram:
    """The program that ``make`` makes of a model, right on both sides of its branches where one program can be.

    Args:
        source: The model.
        make: Gives an ``ExportedProgram``.
    """
    best = _try_export(source, make, {})
    tried: set[str] = set()
    while len(tried) < MAX_FLIPPED_BRANCHES:
        wrong = [one for one in best.wrong if one.place not in tried]
        if not wrong:
            break
        tried.add(wrong[0].place)
        try:
            other = _try_export(source, make, {**best.sides, wrong[0].place: not wrong[0].side})
        except Exception:  # noqa: BLE001, S112 - that way it cannot be followed, for whatever reason: the limit stays
            continue
        on_both = other.agrees_here and other.agrees(best.beyond[wrong[0]])
        if on_both and len(other.wrong) < len(best.wrong):
            best = other
    limits = [
        SizeLimit(condition, branch.place)
        for branch in best.wrong
        for condition in simplify_condition(branch.holds, best.traced)
    ]
    return CheckedProgram(best.program, tuple(limits))


def _try_export(
    source: ExportableModel, make: Callable[[ExportableModel], Any], sides: Mapping[str, bool]
) -> _Trial:
    with record_branches(source.model, sides) as branches:
        program = make(source)
    return _Trial(source, program, sides, tuple(branches))


@dataclass(frozen=True)
class _Trial:
    """A program that was made with some branches taken whatever the example says."""

    source: ExportableModel
    program: Any
    sides: Mapping[str, bool]
    branches: tuple[SizeBranch, ...]

    @cached_property
    def beyond(self) -> dict[SizeBranch, Sizes]:
        """Branches that have another side -> the sizes there that are nearest to the example's."""
        found: dict[SizeBranch, Sizes] = {}
        for branch in self.branches:
            now = branch.under(self._environment) if self._shapes else None
            at = self._nearest(now, holds=False) if now else None
            if now and at:
                found[now] = at
        return found

    @cached_property
    def wrong(self) -> list[SizeBranch]:
        """Those branches on whose other side the program is not the model.

        Where the model itself fails on the other side, it has to work at another size of this side: else it is our inputs
        of these sizes that it does not take, and they tell nothing.
        """
        found: list[SizeBranch] = []
        if not self.beyond or not self.agrees_here:
            return found
        for branch, at in self.beyond.items():
            agrees = self.agrees(at) if self._can_be_tried(at) else False
            if agrees is None:
                near = self._nearest(branch, holds=True)
                agrees = near is None or not self._can_be_tried(near) or self.agrees(near) is None
            if not agrees:
                found.append(branch)
        return found

    @cached_property
    def agrees_here(self) -> bool | None:
        """Whether program and model give the same on the example."""
        return self.agrees({})

    def agrees(self, at: Sizes) -> bool | None:
        """Whether program and model give the same at these sizes; None where the model fails."""
        inputs = self._inputs(at)
        try:
            with _without_side_effects(self.source.module):
                expected = self.source.module(*inputs)
        except Exception:  # noqa: BLE001 - a model may fail in any way
            return None
        try:
            found = self._runnable(*inputs)
        except Exception:  # noqa: BLE001 - and so may its program
            return False
        return all(_allclose(found[name], value) for name, value in expected.items())

    @cached_property
    def _runnable(self) -> Any:
        """The program without its checks of sizes."""
        with mock.patch.object(self.program, "_guards_code", [], create=True):
            module = self.program.module()
        module._forward_pre_hooks.clear()
        return module

    @cached_property
    def _shapes(self) -> list[Any]:
        """Of the inputs, in their order; none if no size is open."""
        shapes = [tuple(node.meta["val"].shape) for node in input_nodes(self.program)]
        return shapes if any(not isinstance(size, int) for one in shapes for size in one) else []

    @cached_property
    def _environment(self) -> Any:
        return next(
            size.node.shape_env for one in self._shapes for size in one if not isinstance(size, int)
        )

    @cached_property
    def traced(self) -> dict[Any, int]:
        """The example's sizes."""
        return traced_sizes(self._environment)

    def _sizes(self, at: Sizes) -> list[list[int]]:
        known = {**self.traced, **at}
        return [
            [size if isinstance(size, int) else int(size.node.expr.xreplace(known)) for size in one]
            for one in self._shapes
        ]

    def _can_be_tried(self, at: Sizes) -> bool:
        tensors = list(self.source.tensors.values())
        wanted = sum(math.prod(shape) for shape in self._sizes(at))
        return bool(wanted <= MAX_INPUT_GROWTH * sum(tensor.numel() for tensor in tensors))

    def _inputs(self, at: Sizes) -> list[Any]:
        """The example's, repeated or cut; nothing is masked."""
        tensors = self.source.tensors
        if not at:
            return list(tensors.values())
        return [
            _resize(tensor, shape, full=name.endswith("attention_mask"))
            for (name, tensor), shape in zip(tensors.items(), self._sizes(at), strict=True)
        ]

    @cached_property
    def _together(self) -> dict[Any, list[Any]]:
        """Symbols -> all those whose axes have the same name: their sizes are the same, whoever calls."""
        named: dict[tuple[str, int], list[Any]] = {}
        for name, shape in zip(self.source.tensors, self._shapes, strict=True):
            for axis, text in self.source.axes[name].items():
                size = shape[axis]
                symbol = None if isinstance(size, int) else size.node.expr
                if symbol in self.traced:
                    named.setdefault((text, self.traced[symbol]), []).append(symbol)
        return {symbol: group for group in named.values() for symbol in group}

    def _nearest(self, branch: SizeBranch, *, holds: bool) -> dict[Any, int] | None:
        """The nearest sizes but the traced ones, of one axis, at which a branch has this side or the other."""
        traced = self.traced
        given = sorted(branch.holds.free_symbols, key=str)
        tried = [
            (abs(value - traced[symbol]), number, value)
            for number, symbol in enumerate(given)
            for value in probe_sizes(branch.holds, traced[symbol])
        ]
        known = {symbol: traced[symbol] for symbol in given}
        for _, number, value in sorted(tried):
            at = dict.fromkeys(self._together.get(given[number], [given[number]]), value)
            if bool(branch.holds.xreplace({**known, **at})) is holds and self._are_sizes(at):
                return at
        return None

    def _are_sizes(self, at: Sizes) -> bool:
        return all(size > 0 for shape in self._sizes(at) for size in shape)


@contextmanager
def _without_side_effects(model: Any) -> Iterator[None]:
    """In this context a model may keep what it likes (tables that grow with the longest input): it is forgotten after it."""
    before = [(vars(part), dict(vars(part)), dict(part._buffers)) for part in model.modules()]
    try:
        yield
    finally:
        for attributes, kept, buffers in before:
            attributes.clear()
            attributes.update(kept)
            attributes["_buffers"].clear()
            attributes["_buffers"].update(buffers)


def _resize(tensor: Any, shape: list[int], *, full: bool) -> Any:
    import torch

    for axis, (old, new) in enumerate(zip(tensor.shape, shape, strict=True)):
        if old != new:
            tensor = tensor.index_select(axis, torch.arange(new, device=tensor.device) % old)
    return torch.ones_like(tensor) if full and not tensor.is_floating_point() else tensor


def _allclose(found: Any, expected: Any) -> bool:
    """Equal but for rounding."""
    import torch

    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not found.is_floating_point():
        return bool(torch.equal(found, expected))
    allowed = max(RELATIVE_TOLERANCE, 16 * torch.finfo(found.dtype).eps)
    largest = float(expected.nan_to_num(0, 0, 0).abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=0, atol=allowed * largest, equal_nan=True))
