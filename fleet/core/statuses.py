"""The statuses of jobs that are done."""

from __future__ import annotations

from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "difference", "refused", "failed"]

STATUSES: tuple[Status, ...] = ("ok", "difference", "refused", "failed")
"""From good to bad: as it should be; a backend diverged; the input is wrong; a backend, a worker or Equipoise failed."""
