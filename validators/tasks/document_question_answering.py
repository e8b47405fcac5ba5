"""Document question answering: answers a question about a page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import (
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
    Sample,
    SampleValue,
    TokenIds,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.tasks.base import forward
from equipoise.validators.tasks.shared.documents import (
    MAX_ANSWER_TOKENS,
    document_answers,
    document_decisions,
    encode_documents,
    token_logits,
)
from equipoise.validators.tasks.shared.generation import (
    generate_text,
    generation_cases,
    token_decisions,
)
from equipoise.validators.tasks.shared.images import preprocess_images, synthetic_image
from equipoise.validators.tasks.shared.spans import positive_count
from equipoise.validators.tasks.shared.text import max_tokens, tokenize

DONUT_PROMPT = "<s_docvqa><s_question>{}</s_question><s_answer>"
"""Donut's prompt for document question answering."""


class DocumentQuestionAnswering:
    """LayoutLM on words with bounding boxes, and Donut on the image of a page."""

    name = "document-question-answering"
    aliases = ("docvqa",)
    auto_class = "AutoModelForDocumentQuestionAnswering"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for LayoutLM with a question answering head, or Donut."""
        is_layoutlm = model.model_type.startswith("layoutlm")
        return (is_layoutlm and model.class_name.endswith("ForQuestionAnswering")) or is_donut(
            model
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns pages with different numbers of words."""
        pages = {
            "What is the total?": "Invoice 17 Total 25 Euro",
            "Who signs?": "Letter Signed Anna Smith",
            "What is the date?": "Invoice 18 Date 4 May Total 90 Euro Thank you",
        }
        return [
            {
                "image": synthetic_image(index),
                "question": question,
                "word_boxes": _parse_boxes(text),
            }
            for index, (question, text) in enumerate(pages.items())
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns cases of one page, three, with extra padding, and of a page longer than the model takes, which fills its rows.

        For Donut they are those of :func:`generation_cases` with one page.
        """
        if is_donut(model):
            return [case for case in generation_cases(model, samples) if len(case.samples) == 1]
        three = take_cyclic(samples, 3)
        return [
            Case("single", (samples[0],)),
            Case("batch", three),
            Case("padded", three, {"extra_padding": 5}),
            Case("long", (_long_page(samples[0], max_tokens(model)),)),
        ]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes words with their boxes; adds images if the model accepts them.

        Raises:
            InputError: Donut gets several pages whose questions differ in length.
        """
        if not is_donut(model):
            return encode_documents(model, case)
        prompts = [DONUT_PROMPT.format(sample["question"]) for sample in case.samples]
        tokens = tokenize(model, Case("", ()), prompts, add_special_tokens=False)
        if not tokens["attention_mask"].all():
            raise InputError(
                "Donut does not support padded questions", hint="run one page at a time"
            )
        arrays = {
            **preprocess_images(model, case.samples),
            "decoder_input_ids": tokens["input_ids"],
        }
        return Batch(case, arrays)

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """Runs one forward pass, or a generation loop for Donut."""
        if is_donut(model):
            return generate_text(self, runner, model, batch, follow)
        return token_logits(batch, forward(runner, batch))

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns answers; options ``top_k``, ``max_answer_len``, ``handle_impossible_answer``."""
        if is_donut(model):
            return [[{"answer": _donut_answer(model, row)}] for row in outputs["sequences"]]
        longest = options.get("max_answer_len")
        max_answer_tokens = positive_count("max_answer_len", longest, MAX_ANSWER_TOKENS)
        allow_no_answer = bool(options.get("handle_impossible_answer"))
        top_k = positive_count("top_k", options.get("top_k"), 1)
        return document_answers(batch, outputs, top_k, max_answer_tokens, allow_no_answer)

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns start and end of the best span, or the generated tokens for Donut."""
        if is_donut(model):
            return token_decisions(self, model, batch, outputs)
        return document_decisions(batch, outputs)


def is_donut(model: ModelFolder) -> bool:
    """Checks whether the model is Donut, which reads the image of a page and generates the answer."""
    encoder = model.config.get("encoder") or {}
    return model.class_name == "VisionEncoderDecoderModel" and (
        encoder.get("model_type") == "donut-swin"
    )


def _donut_answer(model: ModelFolder, ids: TokenIds) -> str | None:
    tokenizer = model.tokenizer
    text = str(tokenizer.decode(ids))
    text = text.replace(tokenizer.eos_token, "").replace(tokenizer.pad_token, "")
    text = re.sub(r"<.*?>", "", text, count=1).strip()
    match = re.search(r"<s_answer>(.*)</s_answer>", text)
    return match.group(1).strip() if match else None


def _long_page(sample: Sample, tokens: int) -> Sample:
    """Returns a page whose words are repeated until they are more than ``tokens``; a page without boxes as it is."""
    boxes = sample.get("word_boxes")
    if not boxes:
        return sample
    return {**sample, "word_boxes": list(boxes) * (1 + tokens // len(boxes))}


def _parse_boxes(text: str) -> list[SampleValue]:
    """Returns words in lines of four, each with a bounding box in thousandths of the page."""
    return [
        [word, [200 * (i % 4) + 50, 100 * (i // 4) + 50, 200 * (i % 4) + 230, 100 * (i // 4) + 110]]
        for i, word in enumerate(text.split())
    ]


TASK = DocumentQuestionAnswering()
