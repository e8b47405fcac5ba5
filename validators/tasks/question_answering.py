"""Question answering: extracts the answer from a context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
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
    TokenizerOutput,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.spans import (
    best_spans,
    positive_count,
    row_probabilities,
    span_margin,
    spans_of_sample,
)
from equipoise.validators.tasks.shared.text import (
    check_filled,
    encode_texts,
    max_tokens,
    text_cases,
    to_int64,
)

MAX_ANSWER_TOKENS = 15
"""Maximal length of an answer in tokens; the default of pipeline()."""

MAX_SEQUENCE_TOKENS = 384
"""Maximal number of tokens of question and context; longer contexts are split into overlapping parts, as in pipeline()."""


class QuestionAnswering:
    """Answers that are spans of a given context."""

    name = "question-answering"
    aliases = ()
    auto_class = "AutoModelForQuestionAnswering"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a span classifier that accepts only text."""
        return (
            model.class_name.endswith(("ForQuestionAnswering", "ForQuestionAnsweringSimple"))
            and model.has_tokenizer
            and not model.has_image_processor
            and not model.model_type.startswith(("layoutlm", "tapas"))
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns questions with contexts of different lengths."""
        river = "The Rhine flows from the Alps to the North Sea. Basel lies on its banks."
        return [
            {"question": "Where does Anna live?", "context": "Anna lives in Oslo with her dog."},
            {"question": "Which city lies on the Rhine?", "context": river},
            {"question": "Who is late?", "context": "Ben is late."},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`text_cases`, in which the context varies."""
        return text_cases(model, samples, "context")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes questions and contexts; a long context becomes several rows."""
        check_filled(case, "question", "context")
        # A tokenizer that pads on the left has the context first, as in pipeline().
        is_left = PIPELINE in case.options and model.tokenizer.padding_side == "left"
        names = ("context", "question") if is_left else ("question", "context")
        texts = [[str(sample[name]) for sample in case.samples] for name in names]
        encoding = encode_texts(
            model,
            case,
            *texts,
            truncation="only_first" if is_left else "only_second",
            padding_side="left" if is_left else "right",
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            **_part_options(model, case),
        )
        rows = range(len(encoding["input_ids"]))
        part_of_context = 0 if is_left else 1
        allowed = np.array(
            [[part == part_of_context for part in encoding.sequence_ids(row)] for row in rows]
        )
        # pipeline() includes the first special token in the softmax, then sets its probability to zero.
        allowed |= np.asarray(encoding["input_ids"]) == model.tokenizer.cls_token_id
        context = {
            "allowed": allowed & (np.asarray(encoding["attention_mask"]) == 1),
            "part": part_of_context,
            "encodings": [encoding[row] for row in rows],
            "sample": np.asarray(encoding["overflow_to_sample_mapping"]),
        }
        inputs = set(encoding) - {"overflow_to_sample_mapping", "offset_mapping"}
        arrays = {name: to_int64(np.asarray(encoding[name])) for name in sorted(inputs)}
        valid = dict.fromkeys(("start_logits", "end_logits"), arrays["attention_mask"] == 1)
        return Batch(case, arrays, valid=valid, context=context)

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns answers; options ``top_k``, ``max_answer_len``, ``handle_impossible_answer``, ``align_to_words``."""
        return [
            self._best_answers(batch, outputs, index, options)
            for index in range(len(batch.case.samples))
        ]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns start and end of the best span of every row."""
        decisions = []
        for row, allowed in enumerate(batch.context["allowed"]):
            start, end = outputs["start_logits"][row], outputs["end_logits"][row]
            margin = np.asarray(span_margin(start, end, allowed, MAX_ANSWER_TOKENS))
            answer = self._best_spans(batch, outputs, row, 1, MAX_ANSWER_TOKENS)[:1]
            value = list(answer[0][:2]) if answer else []
            decisions += [
                Decision("start", value[:1], "start_logits", row, margin),
                Decision("end", value[1:], "end_logits", row, margin),
            ]
        return decisions

    @staticmethod
    def _best_spans(
        batch: Batch, outputs: Arrays, row: int, count: int, max_answer_tokens: int
    ) -> list[tuple[int, int, float]]:
        allowed: Array = batch.context["allowed"][row]
        return best_spans(
            *row_probabilities(outputs, row, allowed), allowed, count, max_answer_tokens
        )

    def _best_answers(
        self, batch: Batch, outputs: Arrays, index: int, options: dict[str, CallOption]
    ) -> Answer:
        top_k = positive_count("top_k", options.get("top_k", options.get("topk")), 1)
        align = bool(options.get("align_to_words", True))
        text = str(batch.case.samples[index]["context"])
        answers: list[dict[str, Answer]] = []
        count = top_k * 2 + 10 if align else top_k
        longest = options.get("max_answer_len")
        max_answer_tokens = positive_count("max_answer_len", longest, MAX_ANSWER_TOKENS)
        spans, null_score = spans_of_sample(batch, outputs, index, count, max_answer_tokens)
        for row, first, last, score in spans:
            encoding = batch.context["encodings"][row]
            span = _character_span(encoding, first, last, align, batch.context["part"])
            _add_answer(answers, text, span, score)
        if options.get("handle_impossible_answer"):
            answers.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
        answers = sorted(answers, key=lambda answer: -answer["score"])[:top_k]
        return answers[0] if len(answers) == 1 else answers


def _add_answer(
    answers: list[dict[str, Answer]], text: str, span: tuple[int, int], score: float
) -> None:
    """Adds an answer, or adds its score to an earlier answer with the same words."""
    words = text[span[0] : span[1]]
    for answer in answers:
        if answer["answer"].lower() == words.lower():
            answer["score"] += score
            return
    answers.append({"score": score, "start": span[0], "end": span[1], "answer": words})


def _part_options(model: ModelFolder, case: Case) -> dict[str, CallOption]:
    """Returns how long the parts of a long context are, and how many tokens two of them share.

    Raises:
        InputError: They would share more than they have.
    """
    limit = case.options.get("max_tokens") or min(max_tokens(model), MAX_SEQUENCE_TOKENS)
    if PIPELINE in case.options:
        own = min(int(model.tokenizer.model_max_length), MAX_SEQUENCE_TOKENS)
        limit = positive_count("max_seq_len", case.options.get("max_seq_len"), own)
    given = case.options.get("doc_stride")
    stride = min(int(limit) // 2, 128) if given is None else int(given)
    if stride > limit:
        raise InputError(
            f"doc_stride {stride} is larger than max_seq_len {limit}", hint="a smaller doc_stride"
        )
    padding = case.options.get("padding")
    return {
        "max_length": int(limit),
        "stride": stride,
        "padding": True if padding is None else padding,
    }


def _character_span(
    encoding: TokenizerOutput, first: int, last: int, align: bool, part: int
) -> tuple[int, int]:
    """Returns the position of tokens in the context, extended to whole words if possible and ``align`` is set."""
    words = encoding.token_to_word(first), encoding.token_to_word(last)
    if align and None not in words:
        start = encoding.word_to_chars(words[0], sequence_index=part)
        end = encoding.word_to_chars(words[1], sequence_index=part)
        if start is not None and end is not None:
            return int(start[0]), int(end[1])
    return int(encoding.offsets[first][0]), int(encoding.offsets[last][1])


TASK = QuestionAnswering()
