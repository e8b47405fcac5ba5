"""Records where a model's own code branches on a dynamic size: ``torch.export`` follows only the example's side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from equipoise.convert.core.framework_types import ShapeEnv, SympyExpr, SympySymbol, TorchModel


@dataclass(frozen=True)
class SizeBranch:
    """One condition on sizes that a model's code evaluated.

    Attributes:
        place: Module and line of the code.
        condition: The condition in SymPy.
        side: The value of the condition that the export followed.
    """

    place: str
    condition: SympyExpr
    side: bool

    @property
    def holds(self) -> SympyExpr:
        """What is true on the side that the export followed."""
        return self.condition if self.side else ~self.condition

    def simplified(self, environment: ShapeEnv) -> SizeBranch | None:
        """Returns the branch with the equalities of sizes that PyTorch has found since.

        Returns None if the condition no longer depends on any size.
        """
        condition = environment.replace(self.condition)
        return replace(self, condition=condition) if condition.free_symbols else None


@contextmanager
def record_branches(model: TorchModel, sides: Mapping[str, bool]) -> Iterator[list[SizeBranch]]:
    """Records the branches that a model's code takes on dynamic sizes in this context, each once.

    Args:
        model: The model. Its code are the packages of its modules, and transformers.
        sides: Sides to follow instead of the example's, by the place of the branch.
    """
    import torch

    packages = {_top_package(type(part).__module__) for part in model.modules()} - {"torch"}
    packages.add("transformers")
    branches: list[SizeBranch] = []
    original = torch.SymBool.__bool__

    def evaluate(self: Any) -> bool:
        frame = sys._getframe(1)
        if frame.f_code is torch.SymInt.__bool__.__code__ and frame.f_back is not None:
            frame = frame.f_back
        name = str(frame.f_globals.get("__name__", ""))
        if _top_package(name) not in packages or not _depends_on_sizes(self.node):
            return bool(original(self))
        condition, place = self.node.expr, f"{name}:{frame.f_lineno}"
        side = sides[place] if place in sides else bool(original(self))
        branch = SizeBranch(place, condition, side)
        if branch not in branches:
            branches.append(branch)
        return side

    with mock.patch.object(torch.SymBool, "__bool__", evaluate):
        yield branches


def _top_package(module: str) -> str:
    return module.partition(".")[0]


def _depends_on_sizes(node: Any) -> bool:
    """Checks whether a condition varies with input sizes, and with nothing but input sizes."""
    environment, condition = node.shape_env, node.expr
    known = traced_sizes(environment)
    return (
        bool(condition.free_symbols)
        and all(symbol in known for symbol in condition.free_symbols)
        and environment._maybe_evaluate_static(condition) is None
    )


def traced_sizes(environment: ShapeEnv) -> dict[SympySymbol, int]:
    """Returns the sizes of the example by PyTorch's symbols.

    The attribute was called ``var_to_val`` until torch 2.9.
    """
    name = "backed_var_to_val" if hasattr(environment, "backed_var_to_val") else "var_to_val"
    return {symbol: int(value) for symbol, value in getattr(environment, name).items()}
