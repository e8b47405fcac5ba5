"""Text classification: labels of a text, or of a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import (
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import (
    apply_function,
    label_decisions,
    label_names,
    top_k_labels,
)
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
        if any(sample.get("text_pair") for sample in case.samples):  # an empty one is none
            columns.append([str(sample.get("text_pair", "")) for sample in case.samples])
        return Batch(case, tokenize(model, case, *columns))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``{"label", "score"}``, or a list of the ``top_k`` best (None: all); ``return_all_scores`` keeps their order."""
        logits = outputs["logits"]
        names = label_names(model, logits.shape[-1])
        function = options.get("function_to_apply") or self.score_function(model)
        scores = apply_function(function, logits)
        everything = options.get("return_all_scores", model.config.get("return_all_scores"))
        if everything and "top_k" not in options:
            return [
                [
                    {"label": name, "score": float(score)}
                    for name, score in zip(names, row, strict=True)
                ]
                for row in scores
            ]
        ranked = [top_k_labels(names, row, options.get("top_k", 1)) for row in scores]
        return ranked if "top_k" in options else [labels[0] for labels in ranked]

    decisions = label_decisions

    @staticmethod
    def score_function(model: ModelFolder) -> str:
        """Returns what ``pipeline()`` applies: sigmoid for one label or multi-label models, nothing for regression, else softmax."""
        problem_type = model.config.get("problem_type")
        if problem_type == "regression":
            return "none"
        is_single = len(model.labels) == 1
        return "sigmoid" if problem_type == "multi_label_classification" or is_single else "softmax"


TASK = TextClassification()
