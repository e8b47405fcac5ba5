"""Errors of the lowering from ATen to JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.convert.core.errors import EquipoiseError

DATA_DEPENDENT_SIZE = "the size of its result depends on the values of a tensor"


class LoweringError(EquipoiseError):
    """An operator is unknown, or has no counterpart in JAX, where sizes are fixed before a program runs.

    Args:
        message: What is wrong.
        operator: ATen's name of the operator.
        module: Path of the model's module that it came from.
        hint: What to do.
        sizes: Symbolic sizes that the operator met.
    """

    def __init__(
        self,
        message: str,
        *,
        operator: str,
        module: str,
        hint: str | None = None,
        sizes: Sequence[Any] = (),
    ) -> None:
        self.operator = operator
        self.module = module
        self.sizes = sizes
        where = f"{operator} in {module}" if module else operator
        super().__init__(f"{where}: {message}", hint=hint)
