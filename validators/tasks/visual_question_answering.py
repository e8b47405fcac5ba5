"""Visual question answering: answers a question about an image with a label."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.activations import sigmoid
from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.images import image_cases, preprocess_images, synthetic_image
from equipoise.validators.tasks.shared.labels import (
    DEFAULT_TOP_K,
    label_decisions,
    label_names,
    top_k_labels,
)
from equipoise.validators.tasks.shared.text import (
    SECOND_SEGMENT,
    long_case,
    tokenize,
    with_tokenizer_options,
)


class VisualQuestionAnswering:
    """ViLT: text and image patches in one encoder."""

    name = "visual-question-answering"
    aliases = ("vqa",)
    auto_class = "AutoModelForVisualQuestionAnswering"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a classifier of answers with an image processor that is no document model."""
        return (
            model.class_name.endswith("ForQuestionAnswering")
            and model.has_image_processor
            and not model.model_type.startswith("layoutlm")
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns questions of different lengths about synthetic images."""
        questions = ("What colour is the disc?", "What is this?", "Is there a yellow box below?")
        return [
            {"image": synthetic_image(index), "question": q} for index, q in enumerate(questions)
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases`, and one of a question as long as the model takes."""
        options = {SECOND_SEGMENT: True}
        return [*image_cases(model, samples), long_case(model, samples[0], "question", options)]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes questions and images."""
        call = with_tokenizer_options(case, "padding", "truncation")
        tokens = tokenize(model, call, [str(sample["question"]) for sample in case.samples])
        return Batch(case, {**tokens, **preprocess_images(model, case.samples)})

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the ``top_k`` (5) best answers, each with its own score."""
        names = label_names(model, outputs["logits"].shape[-1])
        top_k = DEFAULT_TOP_K if options.get("top_k") is None else options["top_k"]
        return [
            [
                {"score": label["score"], "answer": label["label"]}
                for label in top_k_labels(names, row, top_k)
            ]
            for row in sigmoid(outputs["logits"])
        ]

    decisions = label_decisions


TASK = VisualQuestionAnswering()
