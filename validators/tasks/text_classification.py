"""Text classification: labels of a text, or of a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import label_decisions, top_k_labels
from equipoise.validators.tasks.shared.text import text_cases, tokenize


class TextClassification:
    """Sequence classifiers, such as those for sentiment analysis."""

    name = "text-classification"
    aliases = ("sentiment-analysis",)
    auto_class = "AutoModelForSequenceClassification"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a sequence classifier with a tokenizer and without a label for entailment."""
        names = {name.lower() for name in model.labels.values()}
        return (
            model.class_name.endswith("ForSequenceClassification")
            and model.has_tokenizer
            and "entailment" not in names
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns sentences of different lengths."""
        return [
            {"text": "I love this film, it is wonderful."},
            {"text": "A boring story."},
            {"text": "The actors are good, but the plot is slow and the ending makes no sense."},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`text_cases`."""
        return text_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts, or the texts with their ``text_pair``."""
        columns = [[str(sample["text"]) for sample in case.samples]]
        if any("text_pair" in sample for sample in case.samples):
            columns.append([str(sample.get("text_pair", "")) for sample in case.samples])
        return Batch(case, tokenize(model, case, *columns))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``{"label", "score"}``, or a list of the ``top_k`` best (None: all)."""
        names = list(model.labels.values())
        ranked = [
            top_k_labels(names, row, options.get("top_k", 1))
            for row in self._scores(model, outputs["logits"])
        ]
        return ranked if "top_k" in options else [labels[0] for labels in ranked]

    decisions = label_decisions

    @staticmethod
    def _scores(model: ModelFolder, logits: Array) -> Array:
        """Returns the scores that ``pipeline()`` returns: sigmoid for one label or multi-label models, logits for regression, else softmax."""
        problem_type = model.config.get("problem_type")
        if problem_type == "regression":
            return logits
        if problem_type == "multi_label_classification" or logits.shape[-1] == 1:
            return sigmoid(logits)
        return softmax(logits)


TASK = TextClassification()
