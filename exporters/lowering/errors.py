"""What a graph may have that has no counterpart in JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.convert.core.errors import EquipoiseError

SIZE_OF_VALUES = "the size of its result depends on the values of a tensor"


class LoweringError(EquipoiseError):
    """An operator that is not known, or that cannot be expressed where sizes are fixed before a program runs.

    Args:
        message: What is wrong.
        operator: ATen's name.
        module: Path of the module of the model that it came from.
        hint: What to do.
        sizes: Sizes that the operator met and that are no plain numbers.
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
