"""Limits on dynamic sizes: conditions under which an exported program computes what the model computes."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.convert.core.framework_types import ExportedProgram, SympyExpr


@dataclass(frozen=True)
class SizeLimit:
    """A condition that the sizes of inputs must satisfy.

    Attributes:
        condition: The condition in SymPy.
        place: Module and line of the model's code that takes another branch where it does not hold.
    """

    condition: SympyExpr
    place: str


@dataclass(frozen=True)
class CheckedProgram:
    """An exported program and the sizes for which it was found to equal the model.

    Attributes:
        program: The program.
        limits: Outside of these the program differs from the model, or could not be compared.
    """

    program: ExportedProgram
    limits: tuple[SizeLimit, ...]
