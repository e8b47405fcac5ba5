"""Zero-shot classification: labels as hypotheses that a text entails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.model import ModelFolder
from equipoise.validators.runner import Arrays, softmax
from equipoise.validators.tasks.base import (
    Batch,
    Case,
    Decision,
    Sample,
    argmax_margins,
    one_forward,
)
from equipoise.validators.tasks.text import text_cases, tokenize

TEMPLATE = "This example is {}."
"""pipeline()'s hypothesis."""


class ZeroShotClassification:
    """A judge of entailment, asked about every candidate label."""

    name = "zero-shot-classification"
    aliases = ()
    auto_class = "AutoModelForSequenceClassification"

    def suits(self, model: ModelFolder) -> bool:
        """A sequence classifier that has a label for entailment."""
        return (
            model.class_name.endswith("ForSequenceClassification")
            and model.has_tokenizer
            and _entailment(model) is not None
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Texts with numbers of labels that differ."""
        return [
            {"text": "The team won the match.", "candidate_labels": ["sport", "food", "travel"]},
            {"text": "I cook soup with onions.", "candidate_labels": ["food", "sport"]},
            {
                "text": "We flew to Rome and stayed in a hotel near the station.",
                "candidate_labels": ["travel", "music", "food", "sport"],
            },
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`text_cases`."""
        return text_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """A row for every label of every text."""
        pairs = [
            (str(sample["text"]), str(sample.get("hypothesis_template", TEMPLATE)).format(label))
            for sample in case.samples
            for label in labels_of(sample)
        ]
        texts, hypotheses = (list(column) for column in zip(*pairs, strict=True))
        arrays = tokenize(model, case, texts, hypotheses, truncation="only_first")
        ends = np.cumsum([len(labels_of(sample)) for sample in case.samples])
        slices = [
            slice(int(e) - len(labels_of(s)), int(e))
            for s, e in zip(case.samples, ends, strict=True)
        ]
        return Batch(case, arrays, context=slices)

    run = one_forward

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """The labels from the likeliest on; with ``multi_label`` each is judged by itself."""
        found = []
        for sample, rows in zip(batch.case.samples, batch.context, strict=True):
            labels, logits = labels_of(sample), outputs["logits"][rows]
            yes = _entailment(model)
            if options.get("multi_label") or len(labels) == 1:
                no = -1 if yes == 0 else 0
                scores = softmax(logits[:, [no, yes]])[:, 1]
            else:
                scores = softmax(logits[:, yes])
            order = scores.argsort()[::-1]
            found.append(
                {
                    "sequence": str(sample["text"]),
                    "labels": [labels[index] for index in order],
                    "scores": scores[order].tolist(),
                }
            )
        return found

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """The best label of every text."""
        results = self.decode(model, batch, outputs)
        made = []
        for rows, result in zip(batch.context, results, strict=True):
            margin = argmax_margins(outputs["logits"][rows][:, _entailment(model)])
            made.append(Decision("label", result["labels"][0], "logits", rows, margin))
        # One number for all rows of a text.
        return [
            Decision(
                d.name, d.value, d.output, d.rows, np.full(d.rows.stop - d.rows.start, d.margins)
            )
            for d in made
        ]


def labels_of(sample: Sample) -> list[str]:
    """The candidates; a string of them is split at commas.

    Raises:
        InputError: There are none.
    """
    given = sample.get("candidate_labels") or []
    names = given.split(",") if isinstance(given, str) else given
    labels = [str(name).strip() for name in names if str(name).strip()]
    if not labels:
        raise InputError(
            "the sample has no candidate_labels", hint="name them, with commas between"
        )
    return labels


def _entailment(model: ModelFolder) -> int | None:
    found = (index for index, name in model.labels.items() if name.lower().startswith("entail"))
    return next(found, None)


TASK = ZeroShotClassification()
