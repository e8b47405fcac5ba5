"""Helpers of tasks that compare an image or audio with texts of labels."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.activations import sigmoid, softmax
from equipoise.validators.core.types import Answer, Array, Arrays, Batch, Case, Decision
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.labels import argmax_margins, candidate_labels, top_k_labels
from equipoise.validators.tasks.shared.text import tokenize


def encode_pairs(
    model: ModelFolder, case: Case, media: Arrays, template: str, output: str
) -> Batch:
    """Encodes the texts of all samples' labels, together with the images or audio.

    The model compares every image with every text; logits for labels of other samples count as padding.
    """
    texts: list[str] = []
    places: list[slice] = []
    for sample in case.samples:
        labels = candidate_labels(sample)
        places.append(slice(len(texts), len(texts) + len(labels)))
        form = str(sample.get("hypothesis_template", template))
        texts += [form.format(label) for label in labels]
    own = np.zeros((len(case.samples), len(texts)), dtype=bool)
    for row, place in zip(own, places, strict=True):
        row[place] = True
    # SigLIP was trained with texts padded to one length.
    siglip = {"padding": "max_length", "max_length": 64} if _is_siglip(model) else {"padding": True}
    tokens = tokenize(model, case, texts, **siglip)
    return Batch(
        case, {**tokens, **media}, valid={output: own, "logits_per_text": own.T}, context=places
    )


def rank_labels(model: ModelFolder, batch: Batch, scores: Array) -> list[Answer]:
    """Returns ``[{"score", "label"}]`` of every sample, the most probable label first."""
    found = []
    for sample, place, row in zip(batch.case.samples, batch.context, scores, strict=True):
        chances = sigmoid(row[place]) if _is_siglip(model) else softmax(row[place])
        found.append(top_k_labels(candidate_labels(sample), chances, None))
    return found


def best_label_decisions(batch: Batch, output: str, scores: Array) -> list[Decision]:
    """Returns the best label of every sample."""
    made = []
    for index, (sample, place) in enumerate(zip(batch.case.samples, batch.context, strict=True)):
        row = scores[index, place]
        label = candidate_labels(sample)[int(row.argmax())]
        margin = np.full(row.shape, argmax_margins(row))
        made.append(Decision("label", label, output, (index, place), margin))
    return made


def _is_siglip(model: ModelFolder) -> bool:
    return "siglip" in model.model_type
