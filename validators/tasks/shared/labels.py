"""What tasks that give one label of a picture, sound or film share."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import Array, Arrays, Batch, Decision
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import argmax_margins, top_k_labels

DEFAULT_TOP_K = 5
"""How many labels pipeline() gives."""


def classify(
    model: ModelFolder, logits: Array, function: str | None, top_k: int | None
) -> list[Any]:
    """For each row the best labels with their scores.

    Args:
        model: The folder, for the names.
        logits: (rows, labels).
        function: ``softmax``, ``sigmoid`` or ``none``.
        top_k: How many; None for all.
    """
    names = list(model.labels.values())
    apply = {"softmax": softmax, "sigmoid": sigmoid}.get(function or "softmax")
    scores = apply(logits) if apply else logits
    return [top_k_labels(names, row, top_k) for row in scores]


def activation_name(model: ModelFolder) -> str:
    """As the image pipeline: a sigmoid for one label or several at once."""
    several = model.config.get("problem_type") == "multi_label_classification"
    return "sigmoid" if several or len(model.labels) == 1 else "softmax"


def label_decisions(
    self: object, model: ModelFolder, batch: Batch, outputs: Arrays
) -> list[Decision]:
    """:meth:`Task.decisions`: the best label of every sample."""
    logits = outputs["logits"]
    margins = argmax_margins(logits) if logits.shape[-1] > 1 else np.abs(logits[..., 0])
    return [
        Decision("label", model.labels[int(row.argmax())], "logits", index, margins[index])
        for index, row in enumerate(logits)
    ]
