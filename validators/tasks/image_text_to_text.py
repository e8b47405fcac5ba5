"""Image and text to text: continues a text about an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import (
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
    TokenIds,
)
from equipoise.validators.models.auto_classes import has_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.generation import (
    generate_text,
    generation_cases,
    token_decisions,
)
from equipoise.validators.tasks.shared.images import load_image, synthetic_image
from equipoise.validators.tasks.shared.text import to_int64


class ImageTextToText:
    """LLaVA and similar models, whose tokens include images."""

    name = "image-text-to-text"
    aliases = ()
    auto_class = "AutoModelForImageTextToText"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a text decoder that accepts images among the tokens."""
        return (
            ("vision_config" in model.config or "image_token_id" in model.config)
            and model.class_name.endswith(("ForConditionalGeneration", "ForCausalLM"))
            and model.model_type not in ("git", "blip")
            and has_class(model, "AutoModelForImageTextToText", "AutoModelForVision2Seq")
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns questions of different lengths about synthetic images."""
        token = str(getattr(model.processor, "image_token", "<image>"))
        questions = ("What colour is the disc?", "What is this?", "Is there a yellow box below?")
        return [
            {"image": synthetic_image(index), "text": f"{token} {question}"}
            for index, question in enumerate(questions)
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`, without a long text: it would repeat the image token."""
        return generation_cases(model, samples, padding_side="left")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes texts, padded on the left, and images."""
        images = [load_image(sample) for sample in case.samples]
        texts = [str(sample["text"]) for sample in case.samples]
        try:
            encoding = model.processor(
                images=images,
                text=texts,
                return_tensors="np",
                padding=len(case.samples) > 1,
                padding_side="left",
            )
        except ValueError as error:
            raise InputError(f"the processor refuses the sample: {error}", found=texts) from error
        arrays = {name: to_int64(np.asarray(value)) for name, value in encoding.items()}
        return Batch(case, arrays, context={"decoder_only": True})

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"input_text", "generated_text"}]``; with ``return_full_text=False`` only the new text."""
        tokenizer = model.tokenizer
        answers = []
        for index, sample in enumerate(batch.case.samples):
            prompt_text = _decode(tokenizer, batch.arrays["input_ids"][index])
            text = _decode(tokenizer, outputs["sequences"][index])
            # Decoding may add one or two spaces in front, as pipeline() allows.
            position = text.find(prompt_text)
            new = text[position + len(prompt_text) :] if 0 <= position <= 2 else text
            prompt = str(sample["text"])
            generated = prompt + new if options.get("return_full_text", True) else new
            answers.append([{"input_text": prompt, "generated_text": generated}])
        return answers

    decisions = token_decisions


def _decode(tokenizer: Tokenizer, ids: TokenIds) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


TASK = ImageTextToText()
