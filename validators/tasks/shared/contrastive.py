"""Helpers of tasks that compare an image or audio with texts of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
from equipoise.validators.tasks.shared.labels import (
    argmax_margins,
    candidate_labels,
    format_template,
    top_k_labels,
    with_call_labels,
)
from equipoise.validators.tasks.shared.text import max_tokens, repeat_text, tokenize


def encode_pairs(
    model: ModelFolder, case: Case, media: Arrays, template: str, output: str
) -> Batch:
    """Encodes the texts of all samples' labels, together with the images or audio.

    The model compares every image with every text; logits for labels of other samples count as padding.
    """
    texts: list[str] = []
    columns: list[slice] = []
    for sample in case.samples:
        labels = candidate_labels(sample)
        columns.append(slice(len(texts), len(texts) + len(labels)))
        default = case.options.get("hypothesis_template", template)
        hypothesis = str(sample.get("hypothesis_template", default))
        texts += [format_template(hypothesis, label) for label in labels]
    is_own = np.zeros((len(case.samples), len(texts)), dtype=bool)
    for row, slice_of_sample in zip(is_own, columns, strict=True):
        row[slice_of_sample] = True
    # SigLIP was trained with texts padded to one length.
    padding: dict[str, CallOption] = {"padding": True}
    if _is_siglip(model):
        padding = {"padding": "max_length", "max_length": 64, "truncation": True}
    tokens = tokenize(model, case, texts, **padding)
    return Batch(
        case,
        {**tokens, **media},
        valid={output: is_own, "logits_per_text": is_own.T},
        context=columns,
    )


def long_label_case(model: ModelFolder, sample: Sample) -> Case:
    """Returns the case of a sample whose first label is as long as the model takes."""
    labels = candidate_labels(sample)
    length = max_tokens(model)
    label = repeat_text({"label": labels[0]}, "label", length)["label"]
    return Case("long", ({**sample, "candidate_labels": [label, *labels[1:]]},))


def rank_labels(model: ModelFolder, batch: Batch, scores: Array) -> list[Answer]:
    """Returns ``[{"score", "label"}]`` of every sample, the most probable label first."""
    answers = []
    for sample, columns, row in zip(batch.case.samples, batch.context, scores, strict=True):
        probabilities = sigmoid(row[columns]) if _is_siglip(model) else softmax(row[columns])
        answers.append(top_k_labels(candidate_labels(sample), probabilities, None))
    return answers


def best_label_decisions(batch: Batch, output: str, scores: Array) -> list[Decision]:
    """Returns the best label of every sample."""
    decisions = []
    for index, (sample, columns) in enumerate(zip(batch.case.samples, batch.context, strict=True)):
        row = scores[index, columns]
        label = candidate_labels(sample)[int(row.argmax())]
        margin = np.full(row.shape, argmax_margins(row))
        decisions.append(Decision("label", label, output, (index, columns), margin))
    return decisions


class ContrastiveTask:
    """Base class of tasks that find the label whose text fits an image or audio best.

    Attributes:
        template: Text of a label, with ``{}`` for the label; the default of pipeline().
        output: Name of the output with the logits (samples, labels of all samples).
    """

    aliases = ()
    template: str
    output: str

    def encode_media(self, model: ModelFolder, samples: Sequence[Sample]) -> Arrays:
        """Encodes the images or audio of samples."""
        raise NotImplementedError

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images or audio of all samples and the texts of all labels."""
        case = with_call_labels(case)
        media = self.encode_media(model, case.samples)
        return encode_pairs(model, case, media, self.template, self.output)

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the labels with their scores, most probable first."""
        return rank_labels(model, batch, outputs[self.output])

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the best label of every sample."""
        return best_label_decisions(batch, self.output, outputs[self.output])


def _is_siglip(model: ModelFolder) -> bool:
    return "siglip" in model.model_type
