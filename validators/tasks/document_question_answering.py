"""Document question answering: a question about a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.validators.model import ModelFolder
from equipoise.validators.runner import Arrays, Runner
from equipoise.validators.tasks.base import Batch, Case, Decision, Sample, cycle, forward
from equipoise.validators.tasks.generating import choices, write, writing_cases
from equipoise.validators.tasks.pages import (
    MAX_ANSWER,
    of_tokens,
    page_answers,
    page_batch,
    page_decisions,
)
from equipoise.validators.tasks.text import tokenize
from equipoise.validators.tasks.vision import drawn, pixels

PROMPT = "<s_docvqa><s_question>{}</s_question><s_answer>"
"""Donut's own."""


class DocumentQuestionAnswering:
    """LayoutLM on words with boxes, and Donut on the picture of a page."""

    name = "document-question-answering"
    aliases = ("docvqa",)
    auto_class = "AutoModelForDocumentQuestionAnswering"

    def suits(self, model: ModelFolder) -> bool:
        """LayoutLM with its head for spans, or Donut."""
        layout = model.model_type.startswith("layoutlm")
        return (layout and model.class_name.endswith("ForQuestionAnswering")) or donut(model)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Pages of unequal numbers of words."""
        pages = {
            "What is the total?": "Invoice 17 Total 25 Euro",
            "Who signs?": "Letter Signed Anna Smith",
            "What is the date?": "Invoice 18 Date 4 May Total 90 Euro Thank you",
        }
        return [
            {"image": drawn(index), "question": question, "word_boxes": _boxes(text)}
            for index, (question, text) in enumerate(pages.items())
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """One page, three, three padded; for Donut see :func:`writing_cases`, page by page."""
        if donut(model):
            return [case for case in writing_cases(model, samples) if len(case.samples) == 1]
        three = cycle(samples, 3)
        return [
            Case("single", (samples[0],)),
            Case("batch", three),
            Case("padded", three, {"extra": 5}),
        ]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokens with boxes, and pixels where the model takes them.

        Raises:
            InputError: Donut is given several pages whose questions differ in length.
        """
        if not donut(model):
            return page_batch(model, case)
        prompts = [PROMPT.format(sample["question"]) for sample in case.samples]
        tokens = tokenize(model, Case("", ()), prompts, add_special_tokens=False)
        if not tokens["attention_mask"].all():
            raise InputError("Donut takes no padded questions", hint="ask page by page")
        arrays = {**pixels(model, case.samples), "decoder_input_ids": tokens["input_ids"]}
        return Batch(case, arrays)

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """One forward pass, or a loop of them."""
        if donut(model):
            return write(self, runner, model, batch, follow)
        return of_tokens(batch, forward(runner, batch))

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """Answers; options ``top_k``, ``max_answer_len``, ``handle_impossible_answer``."""
        if donut(model):
            return [[{"answer": _donut_answer(model, row)}] for row in outputs["sequences"]]
        length = int(options.get("max_answer_len", MAX_ANSWER))
        impossible = bool(options.get("handle_impossible_answer"))
        top_k = int(options.get("top_k", 1))
        return page_answers(batch, outputs, top_k, length, impossible)

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Start and end of the answer, or its tokens."""
        if donut(model):
            return choices(self, model, batch, outputs)
        return page_decisions(batch, outputs)


def donut(model: ModelFolder) -> bool:
    """Whether the model reads a page as a picture and writes the answer."""
    encoder = model.config.get("encoder") or {}
    return model.class_name == "VisionEncoderDecoderModel" and (
        encoder.get("model_type") == "donut-swin"
    )


def _donut_answer(model: ModelFolder, ids: Any) -> str | None:
    tokenizer = model.tokenizer
    text = str(tokenizer.decode(ids))
    text = text.replace(tokenizer.eos_token, "").replace(tokenizer.pad_token, "")
    text = re.sub(r"<.*?>", "", text, count=1).strip()
    found = re.search(r"<s_answer>(.*)</s_answer>", text)
    return found.group(1).strip() if found else None


def _boxes(text: str) -> list[Any]:
    """Words in lines of four, each with a box in thousandths of the page."""
    return [
        [word, [200 * (i % 4) + 50, 100 * (i // 4) + 50, 200 * (i % 4) + 230, 100 * (i // 4) + 110]]
        for i, word in enumerate(text.split())
    ]


TASK = DocumentQuestionAnswering()
