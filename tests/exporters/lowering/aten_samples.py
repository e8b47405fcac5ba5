"""Samples of ATen calls with PyTorch's results."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import aten_cases
from aten_opinfo import recorded_calls

ON_CUDA = ("_softmax", "_log_softmax")
"""Operators that the CPU lacks if their last argument is true: the expected result is that of PyTorch's decomposition."""
KINDS: dict[str, dict[str, bool]] = {
    "cases": {},
    "open_cases": {"symbolic": True},
    "refused_cases": {"refused": True},
}
"""Functions of ``aten_cases`` modules -> the kind of their samples."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One call.

    Attributes:
        operator: The overload, e.g. ``aten.add.Tensor``.
        origin: The module that defines the sample.
        symbolic: Whether axes of certain lengths are symbolic; see ``aten_cases.tensors``.
        refused: Whether no program can compute it.
    """

    operator: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    symbolic: bool = False
    refused: bool = False

    @cached_property
    def expected(self) -> Any:
        """PyTorch's result."""
        import torch

        _, packet, overload = self.operator.split(".")
        torch.manual_seed(0)
        function = getattr(getattr(torch.ops.aten, packet), overload)
        if packet in ON_CUDA and self.args[-1] is True:
            function = torch._decomp.decomposition_table[function]
        return function(*self.args, **self.kwargs)

    def __str__(self) -> str:
        text_of_arguments = ", ".join(
            [
                *map(_format_argument, self.args),
                *(f"{key}={_format_argument(one)}" for key, one in self.kwargs.items()),
            ]
        )
        kind = ", open" if self.symbolic else ""
        return f"{self.operator}({text_of_arguments}) of {self.origin}{kind}"


def _format_argument(value: Any) -> str:
    import torch

    if torch.is_tensor(value):
        text = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        return text + (f" {value.tolist()}" if value.numel() <= 16 else "")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format_argument, value))}]"
    return repr(value)


def _hand_written() -> Iterator[Sample]:
    """Returns the samples of the ``aten_cases`` modules."""
    from aten_cases.tensors import Tensors

    for module in pkgutil.iter_modules(aten_cases.__path__):
        found = importlib.import_module(f"aten_cases.{module.name}")
        for seed, (function, kind) in enumerate(KINDS.items()):
            for operator, args, kwargs in getattr(found, function, lambda _: ())(Tensors(seed)):
                yield Sample(operator, args, kwargs, module.name, **kind)


@cache
def _by_operator() -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in _hand_written():
        found.setdefault(name_of(sample.operator), []).append(sample)
    return found


@cache
def name_of(overload: str) -> str:
    """Returns the name of an overload in the registry."""
    from equipoise.exporters.lowering.registry import registered_functions

    packet = overload.rpartition(".")[0]
    return overload if overload in registered_functions() else packet


@cache
def samples_of(name: str) -> list[Sample]:
    """Returns all samples of one registered name: hand-written ones, PyTorch's own, then other kinds."""
    calls = [
        Sample(operator, args, kwargs, "op_db") for operator, args, kwargs in recorded_calls(name)
    ]
    return sorted([*_by_operator().get(name, []), *calls], key=kind_of)


def kind_of(sample: Sample) -> int:
    """Returns a key; samples with equal keys can share a program."""
    return 2 * sample.refused + sample.symbolic
