"""Token classification: labels of tokens or entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.activations import softmax
from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
    SampleValue,
    TokenizerOutput,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.entities import (
    Entity,
    aggregate_entities,
    merge_overlapping,
    token_entities,
)
from equipoise.validators.tasks.shared.labels import argmax_margins, label_names
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
        texts = [_text(case, sample) for sample in case.samples]
        encoding = encode_texts(
            model,
            case,
            texts,
            return_special_tokens_mask=True,
            return_offsets_mapping=model.tokenizer.is_fast,
            **_part_options(model, case),
        )
        given = dict(encoding)
        special = np.asarray(given.pop("special_tokens_mask")) == 1
        offsets = given.pop("offset_mapping", None)
        sample_of_row = given.pop("overflow_to_sample_mapping", np.arange(len(texts)))
        if case.options.get("is_split_into_words"):
            offsets = _word_offsets(case, texts, encoding, offsets)
        arrays = {name: to_int64(np.asarray(value)) for name, value in given.items()}
        mask = token_mask(arrays)
        context = {
            "special": special | ~mask,
            "offsets": offsets,
            "sample": np.asarray(sample_of_row),
        }
        return Batch(case, arrays, valid={"logits": mask}, context=context)

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns entities; options ``aggregation_strategy`` (none, simple, first, average, max), ``ignore_labels``."""
        strategy = _strategy(model, batch.case, options)
        ignored = options.get("ignore_labels")
        ignored = ["O"] if ignored is None else ignored
        label_names(model, outputs["logits"].shape[-1])
        answers = []
        for index, sample in enumerate(batch.case.samples):
            rows = np.flatnonzero(batch.context["sample"] == index).tolist()
            found = [
                entity
                for row in rows
                for entity in aggregate_entities(
                    model, self._tokens(model, batch, outputs, sample, row), strategy
                )
                if entity.get("entity", entity.get("entity_group")) not in ignored
            ]
            answers.append(merge_overlapping(found) if len(rows) > 1 else found)
        return answers

    @staticmethod
    def _tokens(
        model: ModelFolder, batch: Batch, outputs: Arrays, sample: Sample, row: int
    ) -> list[Entity]:
        offsets = batch.context["offsets"]
        return token_entities(
            model,
            _joined_text(batch.case, sample),
            batch.arrays["input_ids"][row],
            softmax(outputs["logits"][row]),
            None if offsets is None else offsets[row],
            batch.context["special"][row],
        )

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


def _text(case: Case, sample: Sample) -> SampleValue:
    """Returns the text of a sample, or its words where the call says that they are given.

    Raises:
        InputError: It is of the other kind.
    """
    text, is_split = sample["text"], bool(case.options.get("is_split_into_words"))
    if isinstance(text, str) == is_split:
        raise InputError(
            "the text must be a list of words" if is_split else "the text must be one string",
            found=str(text),
            hint=None if is_split else "is_split_into_words=true for a list of words",
        )
    return list(text) if is_split else str(text)


def _joined_text(case: Case, sample: Sample) -> str:
    text = sample["text"]
    return text if isinstance(text, str) else _delimiter(case).join(text)


def _delimiter(case: Case) -> str:
    given = case.options.get("delimiter")
    return " " if given is None else str(given)


def _part_options(model: ModelFolder, case: Case) -> dict[str, CallOption]:
    """Returns the tokenizer's options of a call: texts are cut at the tokenizer's limit, or split with ``stride``.

    Raises:
        InputError: The stride does not fit the tokenizer.
    """
    if PIPELINE not in case.options:
        return {}
    options: dict[str, CallOption] = {"truncation": True}
    if case.options.get("is_split_into_words"):
        options["is_split_into_words"] = True
    stride = case.options.get("stride")
    if stride is None:
        return options
    limit = int(model.tokenizer.model_max_length)
    if stride >= limit or not model.tokenizer.is_fast:
        raise InputError(
            "stride must be less than the tokenizer's limit, of a fast tokenizer",
            found=str(stride),
            expected=f"less than {limit}",
        )
    return {**options, "return_overflowing_tokens": True, "padding": True, "stride": stride}


def _word_offsets(
    case: Case, texts: Sequence[Sequence[str]], encoding: TokenizerOutput, offsets: Array
) -> Array:
    """Returns the positions of tokens in the joined text, from those in their words."""
    step = len(_delimiter(case))
    moved = np.array(offsets)
    samples = encoding.get("overflow_to_sample_mapping", range(len(texts)))
    for row, sample in enumerate(samples):
        starts = np.cumsum([0, *(len(word) + step for word in texts[sample])])
        for token, word in enumerate(encoding.word_ids(row)):
            if word is not None:
                moved[row, token] += starts[word]
    return moved


def _strategy(model: ModelFolder, case: Case, options: Mapping[str, CallOption]) -> str:
    """Returns the aggregation strategy, also from the two parameters that it replaced.

    Raises:
        InputError: It cannot be used with this tokenizer, or with ``stride``.
    """
    grouped, whole = options.get("grouped_entities"), options.get("ignore_subwords")
    strategy = options.get("aggregation_strategy")
    if grouped is not None or whole is not None:
        strategy = ("first" if whole else "simple") if grouped else "none"
    if strategy in ("first", "average", "max") and not model.tokenizer.is_fast:
        raise InputError(
            "a slow tokenizer knows no words", found=str(strategy), expected="none, simple"
        )
    if case.options.get("stride") is not None and strategy == "none":
        raise InputError(
            "stride needs an aggregation_strategy",
            found="none",
            expected="simple, first, average, max",
        )
    return str(strategy or "none")


TASK = TokenClassification()
