"""Image to text: describes an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.generation import (
    decode_texts,
    generate_text,
    generation_cases,
    long_answer_case,
    rows_of_samples,
    token_decisions,
    with_long_answer,
)
from equipoise.validators.tasks.shared.images import preprocess_images, synthetic_image_samples


class ImageToText:
    """Vision encoder-decoder models, GIT, and BLIP."""

    name = "image-to-text"
    aliases = ("image-captioning",)
    auto_class = "AutoModelForImageTextToText"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a model that generates text from images alone."""
        is_donut = (model.config.get("encoder") or {}).get("model_type") == "donut-swin"
        return (model.class_name == "VisionEncoderDecoderModel" and not is_donut) or (
            model.class_name in _DECODER_ONLY_CLASSES
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`; BLIP's class does not return its cache."""
        cases = generation_cases(model, samples)
        if model.class_name not in _DECODER_ONLY_CLASSES:
            cases.append(long_answer_case(model, samples[0]))
        is_blip = model.model_type == "blip"
        return [case for case in cases if not (is_blip and case.options.get("cache"))]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images; GIT and BLIP get a start token as ``input_ids``."""
        _check_special_tokens(model, case)
        arrays = preprocess_images(model, case.samples)
        if case.options.get("prompt") is not None:
            return self._encode_prompt(model, case, arrays)
        if model.class_name not in _DECODER_ONLY_CLASSES:
            return Batch(case, with_long_answer(model, case, arrays))
        start = model.generation_config.get("bos_token_id")
        if model.model_type != "blip":
            start = case.options.get("bos_token_id", start)
        if start is None:
            raise InputError("a caption of this model needs bos_token_id", file=model.path)
        arrays["input_ids"] = np.full((len(case.samples), 1), int(start), dtype=np.int64)
        arrays["attention_mask"] = np.ones_like(arrays["input_ids"])
        return Batch(case, arrays, context={"decoder_only": True})

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"generated_text"}]``."""
        return [
            [
                {"generated_text": text}
                for text in decode_texts(model.tokenizer, {"sequences": rows})
            ]
            for rows in rows_of_samples(batch, outputs)
        ]

    @staticmethod
    def _encode_prompt(model: ModelFolder, case: Case, arrays: Arrays) -> Batch:
        """Adds the text that a caption continues.

        Raises:
            InputError: The model cannot continue a text.
        """
        if model.model_type != "git":
            raise InputError(
                "the option prompt is not supported for this model: the pipeline itself fails with it",
                file=model.path, found=model.model_type, expected="git",
            )  # fmt: skip
        tokenizer = model.tokenizer
        ids = tokenizer(str(case.options["prompt"]), add_special_tokens=False)["input_ids"]
        arrays["input_ids"] = np.asarray([[tokenizer.cls_token_id, *ids]], dtype=np.int64)
        arrays["attention_mask"] = np.ones_like(arrays["input_ids"])
        return Batch(case, arrays, context={"decoder_only": True})

    decisions = token_decisions


def _check_special_tokens(model: ModelFolder, case: Case) -> None:
    """Checks that a call does not name special tokens that the model's own ``generate`` sets.

    Raises:
        InputError: It does; ``pipeline()`` raises too.
    """
    names = [name for name in ("eos_token_id", "pad_token_id") if name in case.options]
    if model.model_type == "blip" and names:
        raise InputError(
            "BLIP sets its special tokens itself", file=model.path, found=", ".join(names)
        )


_DECODER_ONLY_CLASSES = ("GitForCausalLM", "BlipForConditionalGeneration")
"""Classes whose decoder accepts its tokens as ``input_ids``, together with the image."""

TASK = ImageToText()
