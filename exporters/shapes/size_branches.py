"""Where a model's own code branches by a size that is open: ``torch.export`` follows one side, that of the example."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class SizeBranch:
    """One question about sizes that a model asked.

    Attributes:
        place: Module and line of the code that asked.
        condition: What was asked, in SymPy.
        side: The answer that was followed.
    """

    place: str
    condition: Any
    side: bool

    @property
    def holds(self) -> Any:
        """What is true on the side that was followed, in SymPy."""
        return self.condition if self.side else ~self.condition

    def under(self, environment: Any) -> SizeBranch | None:
        """The branch with the sizes that PyTorch found to be equal since; None if it has but one side now."""
        condition = environment.replace(self.condition)
        return replace(self, condition=condition) if condition.free_symbols else None


@contextmanager
def record_branches(model: Any, sides: Mapping[str, bool]) -> Iterator[list[SizeBranch]]:
    """In this context the branches of a model's code are noted, each once.

    Args:
        model: The model; its code are the packages that its parts come from, and transformers.
        sides: Which side to follow, whatever the example says, by the branch's place.
    """
    import torch

    packages = {_top_package(type(part).__module__) for part in model.modules()} - {"torch"}
    packages.add("transformers")
    found: list[SizeBranch] = []
    plain = torch.SymBool.__bool__

    def answer(self: Any) -> bool:
        frame = sys._getframe(1)
        if frame.f_code is torch.SymInt.__bool__.__code__ and frame.f_back is not None:
            frame = frame.f_back
        name = str(frame.f_globals.get("__name__", ""))
        if _top_package(name) not in packages or not _depends_on_sizes(self.node):
            return bool(plain(self))
        condition, place = self.node.expr, f"{name}:{frame.f_lineno}"
        side = sides[place] if place in sides else bool(plain(self))
        branch = SizeBranch(place, condition, side)
        if branch not in found:
            found.append(branch)
        return side

    with mock.patch.object(torch.SymBool, "__bool__", answer):
        yield found


def _top_package(module: str) -> str:
    return module.partition(".")[0]


def _depends_on_sizes(node: Any) -> bool:
    """Whether the answer is neither the same at all sizes nor one about values."""
    environment, condition = node.shape_env, node.expr
    known = traced_sizes(environment)
    return (
        bool(condition.free_symbols)
        and all(symbol in known for symbol in condition.free_symbols)
        and environment._maybe_evaluate_static(condition) is None
    )


def traced_sizes(environment: Any) -> dict[Any, int]:
    """The example's sizes by PyTorch's symbols."""
    # PyTorch renamed it after 2.9.
    name = "backed_var_to_val" if hasattr(environment, "backed_var_to_val") else "var_to_val"
    return {symbol: int(value) for symbol, value in getattr(environment, name).items()}
