"""The commands of Equipoise that a fleet runs."""

from __future__ import annotations

from typing import Literal, TypeAlias

Command: TypeAlias = Literal["convert", "validate", "export"]

COMMANDS: tuple[Command, ...] = ("convert", "validate", "export")
"""Commands whose sources are models; another worker may know others."""
