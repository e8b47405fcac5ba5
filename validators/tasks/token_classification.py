"""Token classification: labels of tokens or entities."""

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
from equipoise.validators.tasks.shared.entities import aggregate_entities, token_entities
from equipoise.validators.tasks.shared.labels import argmax_margins
from equipoise.validators.tasks.shared.text import encode_texts, text_cases, to_int64, token_mask


class TokenClassification:
    """Named entity recognition, part-of-speech tagging."""

    name = "token-classification"
    aliases = ("ner",)
    auto_class = "AutoModelForTokenClassification"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a token classifier with a tokenizer."""
        return model.class_name.endswith("ForTokenClassification") and model.has_tokenizer

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns sentences with names."""
        return [
            {"text": "Anna Smith lives in New York and works for the United Nations."},
            {"text": "Paris is in France."},
            {"text": "Last year the company Siemens moved its office from Munich to Berlin."},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`text_cases`."""
        return text_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts and stores offsets and special tokens."""
        texts = [str(sample["text"]) for sample in case.samples]
        encoding = dict(
            encode_texts(
                model,
                case,
                texts,
                return_special_tokens_mask=True,
                return_offsets_mapping=model.tokenizer.is_fast,
            )
        )
        special = np.asarray(encoding.pop("special_tokens_mask")) == 1
        offsets = encoding.pop("offset_mapping", None)
        arrays = {name: to_int64(np.asarray(value)) for name, value in encoding.items()}
        mask = token_mask(arrays)
        context = {"special": special | ~mask, "offsets": offsets}
        return Batch(case, arrays, valid={"logits": mask}, context=context)

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns entities; options ``aggregation_strategy`` (none, simple, first, average, max), ``ignore_labels``."""
        strategy = str(options.get("aggregation_strategy", "none"))
        ignored = options.get("ignore_labels", ["O"])
        answers = []
        for index, sample in enumerate(batch.case.samples):
            offsets = batch.context["offsets"]
            tokens = token_entities(
                model,
                str(sample["text"]),
                batch.arrays["input_ids"][index],
                softmax(outputs["logits"][index]),
                None if offsets is None else offsets[index],
                batch.context["special"][index],
            )
            entities = aggregate_entities(model, tokens, strategy)
            answers.append(
                [
                    entity
                    for entity in entities
                    if entity.get("entity", entity.get("entity_group")) not in ignored
                ]
            )
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the label of every token that is not special."""
        decisions = []
        for index, special in enumerate(batch.context["special"]):
            (positions,) = np.nonzero(~special)
            rows = outputs["logits"][index, positions]
            labels = [model.labels[best] for best in rows.argmax(-1).tolist()]
            decisions.append(
                Decision("labels", labels, "logits", (index, positions), argmax_margins(rows))
            )
        return decisions


TASK = TokenClassification()
