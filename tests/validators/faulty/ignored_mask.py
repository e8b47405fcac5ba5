"""A fault for programs: the attention mask is ignored."""

from __future__ import annotations

from typing import Any


def patch(model: Any) -> None:
    forward = model.forward

    def faulty(**inputs: Any) -> Any:
        mask = inputs["attention_mask"]
        return forward(**{**inputs, "attention_mask": mask * 0 + 1})

    model.forward = faulty
