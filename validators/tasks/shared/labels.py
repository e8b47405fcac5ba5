"""Helpers of tasks that assign labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder

DEFAULT_TOP_K = 5
"""Number of labels that pipeline() returns by default."""

REGRESSION_TOLERANCE = 0.001
"""How far the number of a regression may move, relative to it (to 1 for smaller numbers): three digits stay the same."""


def classify(
    model: ModelFolder, logits: Array, function: str | None, top_k: int | None
) -> list[Answer]:
    """Returns for each row the best labels with their scores.

    Args:
        model: The model's folder, for the names of the labels.
        logits: (rows, labels).
        function: ``softmax``, ``sigmoid`` or ``none``.
        top_k: Number of labels; None for all.
    """
    names = label_names(model, logits.shape[-1])
    scores = apply_function(function or "softmax", logits)
    return [top_k_labels(names, row, top_k) for row in scores]


def label_names(model: ModelFolder, count: int) -> list[str]:
    """Returns the names of the classes of logits with ``count`` columns.

    Raises:
        InputError: The config names another number of them.
    """
    if sorted(model.labels) != list(range(count)):
        raise InputError(
            f"the model has {count} classes, and its config names {len(model.labels)}",
            file=model.path / "config.json",
            hint="correct id2label, or leave it out and give num_labels",
        )
    return list(model.labels.values())


def apply_function(name: str, logits: Array) -> Array:
    """Returns the scores that ``sigmoid``, ``softmax`` or ``none`` makes of logits."""
    function = {"softmax": softmax, "sigmoid": sigmoid}.get(name.lower())
    return function(logits) if function else logits


def image_activation(model: ModelFolder) -> str:
    """Returns the activation that the image pipeline uses: sigmoid for one label or multi-label models, else softmax."""
    is_multi_label = model.config.get("problem_type") == "multi_label_classification"
    return "sigmoid" if is_multi_label or len(model.labels) == 1 else "softmax"


def label_decisions(
    self: object, model: ModelFolder, batch: Batch, outputs: Arrays
) -> list[Decision]:
    """:meth:`Task.decisions` for every sample: the best label, of multi-label models all labels, of a regression the numbers.

    A label of a multi-label model holds while its logit keeps its sign: its score is then on the same side of 0.5.
    """
    problem_type = model.config.get("problem_type")
    if problem_type == "regression":
        return [_number_decision(row, index) for index, row in enumerate(outputs["logits"])]
    is_multi_label = (
        problem_type == "multi_label_classification" or outputs["logits"].shape[-1] == 1
    )
    decide = _labels_decision if is_multi_label else _label_decision
    return [decide(model, row, index) for index, row in enumerate(outputs["logits"])]


def _label_decision(model: ModelFolder, row: Array, index: int) -> Decision:
    label = model.labels[int(row.argmax())]
    return Decision("label", label, "logits", index, argmax_margins(row))


def _labels_decision(model: ModelFolder, row: Array, index: int) -> Decision:
    labels = [model.labels[position] for position in np.flatnonzero(row > 0).tolist()]
    return Decision("labels", labels, "logits", index, np.abs(row))


def _number_decision(row: Array, index: int) -> Decision:
    margins = REGRESSION_TOLERANCE * np.maximum(np.abs(row), 1.0)
    return Decision("number", [float(f"{value:.3g}") for value in row], "logits", index, margins)


class ClassificationTask:
    """Base class of tasks that assign one label to an image, audio or a video.

    Attributes:
        default_top_k: Number of labels where the call says nothing; None: all.
    """

    aliases = ()
    default_top_k: int | None = DEFAULT_TOP_K

    def activation(self, model: ModelFolder) -> str:
        """Returns the activation that turns logits into scores by default."""
        return "softmax"

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the ``top_k`` best labels; option ``function_to_apply``."""
        function = options.get("function_to_apply") or self.activation(model)
        top_k = options.get("top_k")
        count = self.default_top_k if top_k is None else top_k
        return classify(model, outputs["logits"], function, count)

    decisions = label_decisions


def top_k_labels(names: Sequence[str], scores: Array, top_k: int | None) -> list[dict[str, Answer]]:
    """Returns the best names with their scores; None: all.

    >>> top_k_labels(["a", "b"], np.array([0.25, 0.75]), 1)
    [{'label': 'b', 'score': 0.75}]
    """
    order = np.argsort(-scores, kind="stable").tolist()
    return [{"label": names[index], "score": float(scores[index])} for index in order][:top_k]


def argmax_margins(scores: Array) -> Array:
    """Returns half the difference of the two largest values along the last axis: no smaller error can swap them.

    >>> argmax_margins(np.array([[1.0, 4.0, 3.5], [0.0, 2.0, -9.0]])).tolist()
    [0.25, 1.0]
    """
    top = np.sort(scores.astype(np.float64), axis=-1)[..., -2:]
    return np.asarray(
        (top[..., -1] - top[..., 0]) / 2 if top.shape[-1] > 1 else np.inf * top[..., 0]
    )


def with_call_labels(case: Case) -> Case:
    """Returns a case whose samples without candidate labels have those of the call."""
    labels = case.options.get("candidate_labels")
    if not labels:
        return case
    samples = [{"candidate_labels": labels, **sample} for sample in case.samples]
    return replace(case, samples=tuple(samples))


def format_template(template: str, label: str) -> str:
    """Returns the sentence about a label; a template without a place for it is the sentence of every label.

    Raises:
        InputError: The template has other places too.
    """
    try:
        return template.format(label)
    except (LookupError, ValueError, AttributeError) as error:
        raise InputError(
            f"hypothesis_template cannot be filled in: {error}",
            found=template,
            expected="{} once in the text",
        ) from error


def fill_template(template: str, label: str) -> str:
    """Returns the sentence about a label.

    Raises:
        InputError: The template has no place for the label, or other places too.
    """
    text = format_template(template, label)
    if text == template:
        raise InputError(
            "hypothesis_template has no place for the label",
            found=template,
            expected="{} in the text",
        )
    return text


def candidate_labels(sample: Sample) -> list[str]:
    """Returns the candidate labels of a sample; a string is split at commas.

    Raises:
        InputError: There are none.
    """
    candidates = sample.get("candidate_labels") or []
    if isinstance(candidates, str):
        labels = [name.strip() for name in candidates.split(",") if name.strip()]
    else:
        labels = [str(name) for name in candidates]
    if not labels:
        raise InputError(
            "the sample has no candidate_labels", hint="give a list, or names separated by commas"
        )
    return labels
