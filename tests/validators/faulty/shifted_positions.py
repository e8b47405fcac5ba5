"""A fault for programs: every position id is too large by one."""

from __future__ import annotations

from typing import Any


def patch(model: Any) -> None:
    embeddings = model.bert.embeddings
    embeddings.position_ids = embeddings.position_ids.roll(-1)
