"""Checks an exported program on the untaken side of each branch on sizes that the model's code has.

The side that the example takes may be right for both: padding to a multiple adds nothing where the length is one. So
the program is compared with the model at the nearest sizes on each other side. Where they differ, the model is exported
once more with that branch taken the other way. What still differs becomes a limit of the program.

For example, a model with ``if length % 2: x = pad(x)`` that is exported at length 8 does not pad. At length 9 program
and model differ. Exported again with the branch taken, the program pads by ``length % 2`` zeros, which is right at
lengths 8 and 9 alike, and there is no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest import mock

from equipoise.convert.core.framework_types import (
    ExportedProgram,
    ShapeEnv,
    SympySymbol,
    TorchModule,
    TorchSize,
    TorchTensor,
)
from equipoise.exporters.shapes.limits import CheckedProgram, SizeLimit
from equipoise.exporters.shapes.probe_sizes import Sizes, probe_sizes, simplify_condition
from equipoise.exporters.shapes.size_branches import SizeBranch, record_branches, traced_sizes
from equipoise.exporters.target import ExportableModel, argument_name
from equipoise.exporters.torch_export import input_nodes

MAX_INPUT_GROWTH = 64
"""Inputs are tried up to this many times the elements of the example."""
MAX_FLIPPED_BRANCHES = 4
"""At most this many branches are taken the other way."""
RELATIVE_TOLERANCE = 1e-5
"""Allowed difference relative to the largest number: program and model use the same kernels, only rounding may differ."""

Export = Callable[[ExportableModel], ExportedProgram]


def check_size_branches(source: ExportableModel, export: Export) -> CheckedProgram:
    """Exports a model so that the program is right on both sides of its size branches wherever one program can be.

    Args:
        source: The model.
        export: Exports a model with ``torch.export``.
    """
    best = _try_export(source, export, {})
    tried: set[str] = set()
    while len(tried) < MAX_FLIPPED_BRANCHES:
        wrong = [branch for branch in best.wrong_branches if branch.place not in tried]
        if not wrong:
            break
        tried.add(wrong[0].place)
        try:
            other = _try_export(source, export, {**best.sides, wrong[0].place: not wrong[0].side})
        except Exception:  # noqa: BLE001, S112 - exporting this side may fail in any way: the limit stays
            continue
        right_on_both = other.agrees_at_example and other.agrees(best.untaken[wrong[0]])
        if right_on_both and len(other.wrong_branches) < len(best.wrong_branches):
            best = other
    limits = [
        SizeLimit(condition, branch.place)
        for branch in best.wrong_branches
        for condition in simplify_condition(branch.holds, best.example_sizes)
    ]
    return CheckedProgram(best.program, tuple(limits))


def _try_export(source: ExportableModel, export: Export, sides: Mapping[str, bool]) -> _Trial:
    with record_branches(source.model, sides) as branches:
        program = export(source)
    return _Trial(source, program, sides, tuple(branches))


@dataclass(frozen=True)
class _Trial:
    """A program that was exported with some branches forced to one side."""

    source: ExportableModel
    program: ExportedProgram
    sides: Mapping[str, bool]
    branches: tuple[SizeBranch, ...]

    @cached_property
    def untaken(self) -> dict[SizeBranch, Sizes]:
        """Branches whose other side can be reached -> the nearest sizes on it."""
        found: dict[SizeBranch, Sizes] = {}
        for recorded in self.branches:
            branch = recorded.simplified(self._environment) if self._shapes else None
            sizes = self._nearest_sizes(branch, holds=False) if branch else None
            if branch and sizes:
                found[branch] = sizes
        return found

    @cached_property
    def wrong_branches(self) -> list[SizeBranch]:
        """Branches on whose other side the program differs from the model.

        Where the model itself fails on the other side, it must work at another size of this side: else it cannot take
        our inputs of such sizes at all, and the failure says nothing about the branch.
        """
        found: list[SizeBranch] = []
        if not self.untaken or not self.agrees_at_example:
            return found
        for branch, sizes in self.untaken.items():
            agrees = self.agrees(sizes) if self._is_affordable(sizes) else False
            if agrees is None:
                near = self._nearest_sizes(branch, holds=True)
                agrees = near is None or not self._is_affordable(near) or self.agrees(near) is None
            if not agrees:
                found.append(branch)
        return found

    @cached_property
    def agrees_at_example(self) -> bool | None:
        """Whether program and model agree on the example."""
        return self.agrees({})

    def agrees(self, sizes: Sizes) -> bool | None:
        """Compares program and model at these sizes; None where the model fails."""
        inputs = self._inputs(sizes)
        try:
            with _without_side_effects(self.source.module):
                expected = self.source.module(*inputs)
        except Exception:  # noqa: BLE001 - a model may fail in any way
            return None
        try:
            names = map(argument_name, self.source.tensors)
            found = self._unguarded(**dict(zip(names, inputs, strict=True)))
        except Exception:  # noqa: BLE001 - and so may its program
            return False
        return all(_allclose(found[name], value) for name, value in expected.items())

    @cached_property
    def _unguarded(self) -> TorchModule:
        """The program without its checks of sizes."""
        with mock.patch.object(self.program, "_guards_code", [], create=True):
            module = self.program.module()
        module._forward_pre_hooks.clear()
        return module

    @cached_property
    def _shapes(self) -> list[tuple[TorchSize, ...]]:
        """Shapes of the inputs in their order; empty if no size is dynamic."""
        shapes = [tuple(node.meta["val"].shape) for node in input_nodes(self.program)]
        return shapes if any(not isinstance(size, int) for one in shapes for size in one) else []

    @cached_property
    def _environment(self) -> ShapeEnv:
        return next(
            size.node.shape_env for one in self._shapes for size in one if not isinstance(size, int)
        )

    @cached_property
    def example_sizes(self) -> dict[SympySymbol, int]:
        """The sizes of the example."""
        return traced_sizes(self._environment)

    def _shapes_at(self, sizes: Sizes) -> list[list[int]]:
        known = {**self.example_sizes, **sizes}
        return [
            [size if isinstance(size, int) else int(size.node.expr.xreplace(known)) for size in one]
            for one in self._shapes
        ]

    def _is_affordable(self, sizes: Sizes) -> bool:
        tensors = list(self.source.tensors.values())
        wanted = sum(math.prod(shape) for shape in self._shapes_at(sizes))
        return bool(wanted <= MAX_INPUT_GROWTH * sum(tensor.numel() for tensor in tensors))

    def _inputs(self, sizes: Sizes) -> list[TorchTensor]:
        """Returns the example inputs, repeated or cut to these sizes; masks hide nothing."""
        tensors = self.source.tensors
        if not sizes:
            return list(tensors.values())
        return [
            _resize(tensor, shape, fill_ones=name.endswith("attention_mask"))
            for (name, tensor), shape in zip(tensors.items(), self._shapes_at(sizes), strict=True)
        ]

    @cached_property
    def _symbols_of_one_name(self) -> dict[SympySymbol, list[SympySymbol]]:
        """Symbols -> all symbols of axes with the same name, whose sizes are equal in every call."""
        by_name: dict[tuple[str, int], list[SympySymbol]] = {}
        for name, shape in zip(self.source.tensors, self._shapes, strict=True):
            for axis, axis_name in self.source.axes[name].items():
                size = shape[axis]
                symbol = None if isinstance(size, int) else size.node.expr
                if symbol in self.example_sizes:
                    by_name.setdefault((axis_name, self.example_sizes[symbol]), []).append(symbol)
        return {symbol: group for group in by_name.values() for symbol in group}

    def _nearest_sizes(self, branch: SizeBranch, *, holds: bool) -> dict[SympySymbol, int] | None:
        """Returns the sizes nearest to the traced ones, varying one axis, at which a branch has this side."""
        example_sizes = self.example_sizes
        symbols = sorted(branch.holds.free_symbols, key=str)
        candidates = [
            (abs(value - example_sizes[symbol]), number, value)
            for number, symbol in enumerate(symbols)
            for value in probe_sizes(branch.holds, example_sizes[symbol])
        ]
        known = {symbol: example_sizes[symbol] for symbol in symbols}
        for _, number, value in sorted(candidates):
            group = self._symbols_of_one_name.get(symbols[number], [symbols[number]])
            sizes = dict.fromkeys(group, value)
            if bool(branch.holds.xreplace({**known, **sizes})) is holds and self._are_sizes(sizes):
                return sizes
        return None

    def _are_sizes(self, sizes: Sizes) -> bool:
        return all(size > 0 for shape in self._shapes_at(sizes) for size in shape)


@contextmanager
def _without_side_effects(model: TorchModule) -> Iterator[None]:
    """Undoes what a model stores in itself in this context, such as tables that grow with the longest input."""
    before = [(vars(part), dict(vars(part)), dict(part._buffers)) for part in model.modules()]
    try:
        yield
    finally:
        for attributes, kept, buffers in before:
            attributes.clear()
            attributes.update(kept)
            attributes["_buffers"].clear()
            attributes["_buffers"].update(buffers)


def _resize(tensor: TorchTensor, shape: list[int], *, fill_ones: bool) -> TorchTensor:
    import torch

    for axis, (old, new) in enumerate(zip(tensor.shape, shape, strict=True)):
        if old != new:
            tensor = tensor.index_select(axis, torch.arange(new, device=tensor.device) % old)
    return torch.ones_like(tensor) if fill_ones and not tensor.is_floating_point() else tensor


def _allclose(found: Any, expected: TorchTensor) -> bool:
    """Checks whether two tensors are equal but for rounding."""
    import torch

    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not found.is_floating_point():
        return bool(torch.equal(found, expected))
    tolerance = max(RELATIVE_TOLERANCE, 16 * torch.finfo(found.dtype).eps)
    largest = float(expected.nan_to_num(0, 0, 0).abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=0, atol=tolerance * largest, equal_nan=True))
