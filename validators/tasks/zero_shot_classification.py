"""Zero-shot classification: scores labels by whether a text entails a hypothesis about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.validators.core.activations import softmax
from equipoise.validators.core.types import (
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import (
    argmax_margins,
    candidate_labels,
    fill_template,
    with_call_labels,
)
from equipoise.validators.tasks.shared.text import check_filled, text_cases, tokenize

DEFAULT_TEMPLATE = "This example is {}."
"""Hypothesis about a label; the default of pipeline()."""


class ZeroShotClassification:
    """A classifier of entailment, called for every candidate label."""

    name = "zero-shot-classification"
    aliases = ()
    auto_class = "AutoModelForSequenceClassification"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a sequence classifier with a label for entailment."""
        return (
            model.class_name.endswith("ForSequenceClassification")
            and model.has_tokenizer
            and _entailment_index(model) >= 0
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns texts with different numbers of labels."""
        return [
            {"text": "The team won the match.", "candidate_labels": ["sport", "food", "travel"]},
            {"text": "I cook soup with onions.", "candidate_labels": ["food", "sport"]},
            {
                "text": "We flew to Rome and stayed in a hotel near the station.",
                "candidate_labels": ["travel", "music", "food", "sport"],
            },
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`text_cases`."""
        return text_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes a pair of text and hypothesis for every label."""
        case = with_call_labels(case)
        check_filled(case, "text")
        template = case.options.get("hypothesis_template", DEFAULT_TEMPLATE)
        pairs = [
            (
                str(sample["text"]),
                fill_template(str(sample.get("hypothesis_template", template)), label),
            )
            for sample in case.samples
            for label in candidate_labels(sample)
        ]
        texts, hypotheses = (list(column) for column in zip(*pairs, strict=True))
        arrays = tokenize(model, case, texts, hypotheses, truncation="only_first")
        ends = np.cumsum([len(candidate_labels(sample)) for sample in case.samples])
        slices = [
            slice(int(end) - len(candidate_labels(s)), int(end))
            for s, end in zip(case.samples, ends, strict=True)
        ]
        return Batch(case, arrays, context=slices)

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the labels, most probable first; with ``multi_label`` each has a probability of its own."""
        answers = []
        for sample, rows in zip(batch.case.samples, batch.context, strict=True):
            labels, logits = candidate_labels(sample), outputs["logits"][rows]
            entailment = _entailment_index(model)
            multiple = options.get("multi_class", options.get("multi_label"))
            if multiple or len(labels) == 1:
                contradiction = -1 if entailment == 0 else 0
                scores = softmax(logits[:, [contradiction, entailment]])[:, 1]
            else:
                scores = softmax(logits[:, entailment])
            order = scores.argsort()[::-1]
            answers.append(
                {
                    "sequence": str(sample["text"]),
                    "labels": [labels[index] for index in order],
                    "scores": scores[order].tolist(),
                }
            )
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the best label of every text."""
        results = self.decode(model, batch, outputs)
        decisions = []
        for rows, result in zip(batch.context, results, strict=True):
            margin = argmax_margins(outputs["logits"][rows][:, _entailment_index(model)])
            decisions.append(Decision("label", result["labels"][0], "logits", rows, margin))
        # All rows of a text have the same margin.
        return [
            Decision(
                decision.name,
                decision.value,
                decision.output,
                decision.rows,
                np.full(decision.rows.stop - decision.rows.start, decision.margins),
            )
            for decision in decisions
        ]


def _entailment_index(model: ModelFolder) -> int:
    """Returns the class of entailment by ``label2id``, as the pipeline does; the last class where no name says so."""
    numbers = model.config.get("label2id")
    names = numbers.items() if numbers else ((name, index) for index, name in model.labels.items())
    return next((int(index) for name, index in names if name.lower().startswith("entail")), -1)


TASK = ZeroShotClassification()
