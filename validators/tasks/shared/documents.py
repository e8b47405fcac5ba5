"""Question answering on document pages whose words come with bounding boxes."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    SampleValue,
    TokenizerOutput,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.images import preprocess_images
from equipoise.validators.tasks.shared.spans import (
    best_spans,
    positive_count,
    row_probabilities,
    span_margin,
    spans_of_sample,
)
from equipoise.validators.tasks.shared.text import encode_texts, max_tokens, to_int64

SPAN_LOGITS = ("start_logits", "end_logits")

MAX_ANSWER_TOKENS = 15
"""Maximal length of an answer in tokens; the default of pipeline()."""


def encode_documents(model: ModelFolder, case: Case) -> Batch:
    """Encodes questions, words and their boxes; a long page becomes several rows."""
    words = [[str(word) for word, _ in _word_boxes(sample)] for sample in case.samples]
    boxes = [[box for _, box in _word_boxes(sample)] for sample in case.samples]
    encoding = _tokenize_words(model, case, words, boxes)
    rows = range(len(encoding["input_ids"]))
    allowed = np.array([[part == 1 for part in encoding.sequence_ids(row)] for row in rows])
    allowed |= np.asarray(encoding["input_ids"]) == model.tokenizer.cls_token_id
    sample_of_row = np.asarray(encoding["overflow_to_sample_mapping"])
    arrays = {
        name: to_int64(np.asarray(encoding[name]))
        for name in sorted(set(encoding) - {"overflow_to_sample_mapping"})
    }
    if "bbox" not in arrays:
        arrays["bbox"] = np.array(
            [_token_boxes(model, encoding, row, boxes[sample_of_row[row]]) for row in rows]
        )
    if model.has_image_processor:
        arrays["pixel_values"] = preprocess_images(model, case.samples)["pixel_values"][
            sample_of_row
        ]
    context = {
        "allowed": allowed & (arrays["attention_mask"] == 1),
        "word_ids": [encoding.word_ids(row) for row in rows],
        "sample": sample_of_row,
        "words": words,
    }
    valid = dict.fromkeys(SPAN_LOGITS, arrays["attention_mask"] == 1)
    return Batch(case, arrays, valid=valid, context=context)


def token_logits(batch: Batch, outputs: Arrays) -> Arrays:
    """Removes the logits of image patches, which LayoutLMv3 returns after those of the tokens."""
    length = batch.arrays["input_ids"].shape[1]
    return {
        name: value[:, :length] if name in SPAN_LOGITS else value for name, value in outputs.items()
    }


def document_answers(
    batch: Batch, outputs: Arrays, top_k: int, max_answer_tokens: int, allow_no_answer: bool
) -> list[Answer]:
    """Returns the best answers of every sample."""
    results = []
    for index, words in enumerate(batch.context["words"]):
        answers: list[dict[str, Answer]] = []
        spans, null_score = spans_of_sample(batch, outputs, index, top_k, max_answer_tokens)
        for row, first, last, score in spans:
            ids = batch.context["word_ids"][row]
            start, end = ids[first], ids[last]
            if start is not None and end is not None:
                text = " ".join(words[start : end + 1])
                answers.append({"score": score, "answer": text, "start": start, "end": end})
        if allow_no_answer:
            answers.append({"score": null_score, "answer": "", "start": 0, "end": 0})
        results.append(sorted(answers, key=lambda answer: -answer["score"])[:top_k])
    return results


def document_decisions(batch: Batch, outputs: Arrays) -> list[Decision]:
    """Returns start and end of the best span of every row."""
    decisions = []
    for row, allowed in enumerate(batch.context["allowed"]):
        start, end = outputs["start_logits"][row], outputs["end_logits"][row]
        margin = np.asarray(span_margin(start, end, allowed, MAX_ANSWER_TOKENS))
        spans = best_spans(*row_probabilities(outputs, row, allowed), allowed, 1, MAX_ANSWER_TOKENS)
        value = [list(span[:2]) for span in spans]
        decisions += [
            Decision("start", value, "start_logits", row, margin),
            Decision("end", value, "end_logits", row, margin),
        ]
    return decisions


def _tokenize_words(
    model: ModelFolder, case: Case, words: SampleValue, boxes: SampleValue
) -> TokenizerOutput:
    """Tokenizes questions and words: LayoutLM has BERT's tokenizer; those of its successors accept boxes and words."""
    questions = [str(sample["question"]) for sample in case.samples]
    own = max_tokens(model)
    if PIPELINE in case.options:
        own = int(model.tokenizer.model_max_length)
    max_length = positive_count("max_seq_len", case.options.get("max_seq_len"), own)
    stride = case.options.get("doc_stride")
    padding = case.options.get("padding")
    options: dict[str, CallOption] = {
        "truncation": "only_second",
        "max_length": max_length,
        "stride": min(max_length // 2, 256) if stride is None else int(stride),
        "padding": padding or True,  # a long page has several rows
        "return_overflowing_tokens": True,
        "return_token_type_ids": True,
    }
    if model.model_type == "layoutlm":
        question_words = [question.split() for question in questions]
        return encode_texts(model, case, question_words, words, is_split_into_words=True, **options)
    return encode_texts(model, case, questions, words, boxes=boxes, **options)


def _token_boxes(
    model: ModelFolder, encoding: TokenizerOutput, row: int, boxes: list[SampleValue]
) -> list[SampleValue]:
    ids = np.asarray(encoding["input_ids"])[row]
    token_boxes = []
    for token, part, word in zip(
        ids, encoding.sequence_ids(row), encoding.word_ids(row), strict=True
    ):
        if part == 1:
            token_boxes.append(boxes[word])
        else:
            token_boxes.append([1000 if token == model.tokenizer.sep_token_id else 0] * 4)
    return token_boxes


def _word_boxes(sample: SampleValue) -> SampleValue:
    if "word_boxes" not in sample:
        raise InputError(
            "the sample has no word_boxes",
            hint="read the words of the page with an OCR program and give [word, [x0, y0, x1, y1]]",
        )
    for pair in sample["word_boxes"]:
        if len(pair) != 2 or len(pair[1]) != 4 or isinstance(pair[1], str):
            raise InputError(
                "a word without its box", expected="[word, [x0, y0, x1, y1]]", found=pair
            )
    return sample["word_boxes"]
