"""Questions about pages whose words come with boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.model import ModelFolder
from equipoise.validators.runner import Arrays
from equipoise.validators.tasks.base import Batch, Case, Decision
from equipoise.validators.tasks.spans import best_spans, probabilities, span_margin
from equipoise.validators.tasks.text import int64, longest, tokenized
from equipoise.validators.tasks.vision import pixels

SCORES = ("start_logits", "end_logits")

MAX_ANSWER = 15
"""Tokens of an answer; pipeline()'s default."""


def page_batch(model: ModelFolder, case: Case) -> Batch:
    """Tokens of questions and words, each with its word's box; a row for every part of a long page."""
    words = [[str(word) for word, _ in _word_boxes(sample)] for sample in case.samples]
    boxes = [[box for _, box in _word_boxes(sample)] for sample in case.samples]
    held = longest(model)
    made = _tokens(model, case, words, boxes, held)
    rows = range(len(made["input_ids"]))
    allowed = np.array([[part == 1 for part in made.sequence_ids(row)] for row in rows])
    allowed |= np.asarray(made["input_ids"]) == model.tokenizer.cls_token_id
    owner = np.asarray(made["overflow_to_sample_mapping"])
    arrays = {
        name: int64(np.asarray(made[name]))
        for name in sorted(set(made) - {"overflow_to_sample_mapping"})
    }
    if "bbox" not in arrays:
        arrays["bbox"] = np.array([_boxes_of(model, made, row, boxes[owner[row]]) for row in rows])
    if model.has_image_processor:
        arrays["pixel_values"] = pixels(model, case.samples)["pixel_values"][owner]
    context = {
        "allowed": allowed & (arrays["attention_mask"] == 1),
        "word_ids": [made.word_ids(row) for row in rows],
        "sample": owner,
        "words": words,
    }
    valid = dict.fromkeys(SCORES, arrays["attention_mask"] == 1)
    return Batch(case, arrays, valid=valid, context=context)


def of_tokens(batch: Batch, outputs: Arrays) -> Arrays:
    """The scores of the tokens alone: LayoutLMv3 has some for the patches behind them too, where no answer stands."""
    length = batch.arrays["input_ids"].shape[1]
    return {name: value[:, :length] if name in SCORES else value for name, value in outputs.items()}


def page_answers(
    batch: Batch, outputs: Arrays, top_k: int, length: int, impossible: bool
) -> list[Any]:
    """The best answers of every sample, as lists."""
    found = []
    for index, words in enumerate(batch.context["words"]):
        answers: list[dict[str, Any]] = []
        null = 1.0e6
        for row in np.flatnonzero(batch.context["sample"] == index).tolist():
            allowed = batch.context["allowed"][row]
            starts = probabilities(outputs["start_logits"][row], allowed)
            ends = probabilities(outputs["end_logits"][row], allowed)
            null = min(null, float(starts[0] * ends[0]))
            ids = batch.context["word_ids"][row]
            for first, last, score in best_spans(starts, ends, allowed, top_k, length):
                start, end = ids[first], ids[last]
                if start is not None and end is not None:
                    text = " ".join(words[start : end + 1])
                    answers.append({"score": score, "answer": text, "start": start, "end": end})
        if impossible:
            answers.append({"score": null, "answer": "", "start": 0, "end": 0})
        found.append(sorted(answers, key=lambda answer: -answer["score"])[:top_k])
    return found


def page_decisions(batch: Batch, outputs: Arrays) -> list[Decision]:
    """Start and end of the best span of every row."""
    made = []
    for row, allowed in enumerate(batch.context["allowed"]):
        start, end = outputs["start_logits"][row], outputs["end_logits"][row]
        margin = np.asarray(span_margin(start, end, allowed, MAX_ANSWER))
        chances = probabilities(start, allowed), probabilities(end, allowed)
        spans = best_spans(*chances, allowed, 1, MAX_ANSWER)
        value = [list(span[:2]) for span in spans]
        made += [
            Decision("start", value, "start_logits", row, margin),
            Decision("end", value, "end_logits", row, margin),
        ]
    return made


def _tokens(model: ModelFolder, case: Case, words: Any, boxes: Any, held: int) -> Any:
    """LayoutLM's tokenizer is BERT's; those of its successors take boxes and words by themselves."""
    questions = [str(sample["question"]) for sample in case.samples]
    options: dict[str, Any] = {
        "truncation": "only_second",
        "max_length": held,
        "stride": min(held // 2, 256),
        "padding": len(questions) > 1,
        "return_overflowing_tokens": True,
        "return_token_type_ids": True,
    }
    if model.model_type == "layoutlm":
        split = [question.split() for question in questions]
        return tokenized(model, case, split, words, is_split_into_words=True, **options)
    return tokenized(model, case, questions, words, boxes=boxes, **options)


def _boxes_of(model: ModelFolder, made: Any, row: int, boxes: list[Any]) -> list[Any]:
    ids = np.asarray(made["input_ids"])[row]
    found = []
    for token, part, word in zip(ids, made.sequence_ids(row), made.word_ids(row), strict=True):
        if part == 1:
            found.append(boxes[word])
        else:
            found.append([1000 if token == model.tokenizer.sep_token_id else 0] * 4)
    return found


def _word_boxes(sample: Any) -> Any:
    if "word_boxes" not in sample:
        raise InputError(
            "the sample has no word_boxes",
            hint="read the words of the page with an OCR program and give [word, [x0, y0, x1, y1]]",
        )
    return sample["word_boxes"]
