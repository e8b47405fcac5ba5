"""Constraints on sizes mean the same in JAX's notation and in SymPy's."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest

sympy = pytest.importorskip("sympy")
functions = pytest.importorskip("torch.utils._sympy.functions")
export = pytest.importorskip("jax.export")

from equipoise.exporters.shapes.constraints import to_jax_constraint

pytestmark = pytest.mark.transformers

CleanDiv, FloorDiv, Mod, PythonMod, Max, Min = (
    getattr(functions, name) for name in ("CleanDiv", "FloorDiv", "Mod", "PythonMod", "Max", "Min")
)
N, M = (sympy.Symbol(name, integer=True, positive=True) for name in ("s0", "s1"))
NAMED = {N: sympy.Symbol("length", integer=True), M: sympy.Symbol("width", integer=True)}
CONDITIONS = {
    "most": (N < 78, "length <= 77"),
    "least": (N > 3, "length >= 4"),
    "at most": (N <= 77, "length <= 77"),
    "at least": (N >= 3, "length >= 3"),
    "even": (sympy.Eq(Mod(N, 2), 0), "mod(length, 2) == 0"),
    "one size": (sympy.Eq(N, M), "length == width"),
    "a sum on the left": (sympy.Eq(N + 1, M), "width == length + 1"),
    "two sums": (sympy.Eq(N + 1, M + N * M), None),
    "quotient": (FloorDiv(N - 1, 2) >= 4, "floordiv(length - 1, 2) >= 4"),
    "clean": (CleanDiv(2 * N, 4) <= M, "floordiv(length, 2) <= width"),
    "nested": (
        FloorDiv(FloorDiv(N, 3) - 1, 2) < PythonMod(M, 5),
        "floordiv(floordiv(length, 3) - 1, 2) <= mod(width, 5) - 1",
    ),
    "extremes": (Max(N, M) >= Min(N, 2 * M) + 1, "max(length, width) >= min(2*width, length) + 1"),
    "square": (N**2 >= M, "length*length >= width"),
    "unequal": (sympy.Ne(N, 3), None),
    "either": (sympy.Or(N > 3, M > 3), None),
    "unknown operation": (sympy.sqrt(N) > 3, None),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_constraint(name: str) -> None:
    condition, expected = CONDITIONS[name]
    assert to_jax_constraint(condition, NAMED) == expected


@pytest.mark.parametrize("name", [name for name, (_, text) in CONDITIONS.items() if text])
def test_jax_checks_the_constraint_as_sympy_does(name: str) -> None:
    """JAX's check of a call agrees with SymPy at every pair of sizes."""
    condition, text = CONDITIONS[name]
    program = export_with([text])
    answers = set()
    for length, width in product((1, 2, 4, 9, 77, 78), (1, 3, 9)):
        holds = bool(condition.subs({N: length, M: width}))
        assert is_accepted(program, length, width) is holds, (length, width)
        answers.add(holds)
    assert answers == {True, False}


def export_with(constraints: list[str]) -> Any:
    import jax

    (shape,) = [export.symbolic_shape("length, width", constraints=constraints)]
    return export.export(jax.jit(lambda x: x + 1))(jax.ShapeDtypeStruct(shape, "float32"))


def is_accepted(program: Any, length: int, width: int) -> bool:
    given = np.zeros((length, width), "float32")
    with suppress(ValueError):
        program.call(given)
        return True
    with pytest.raises(ValueError, match="Input shapes do not match"):
        program.call(given)
    return False
