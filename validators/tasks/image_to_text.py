"""Image to text: says what is in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.validators.core.types import Arrays
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Batch, Case, Sample
from equipoise.validators.tasks.shared.generation import choices, texts_of, write, writing_cases
from equipoise.validators.tasks.shared.images import drawn_samples, pixels


class ImageToText:
    """Encoders for pictures with a decoder for text, GIT, and BLIP."""

    name = "image-to-text"
    aliases = ("image-captioning",)
    auto_class = "AutoModelForImageTextToText"

    def suits(self, model: ModelFolder) -> bool:
        """A model that writes and is given pictures alone."""
        donut = (model.config.get("encoder") or {}).get("model_type") == "donut-swin"
        return (model.class_name == "VisionEncoderDecoderModel" and not donut) or (
            model.class_name in _GO_ON
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn pictures."""
        return drawn_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`writing_cases`; the class of BLIP gives no cache away."""
        cases = writing_cases(model, samples)
        blip = model.model_type == "blip"
        return [case for case in cases if not (blip and case.options.get("cache"))]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels of the pictures; GIT and BLIP go on from one token."""
        arrays = pixels(model, case.samples)
        if model.class_name not in _GO_ON:
            return Batch(case, arrays)
        start = int(model.generation_config["bos_token_id"])
        arrays["input_ids"] = np.full((len(case.samples), 1), start, dtype=np.int64)
        arrays["attention_mask"] = np.ones_like(arrays["input_ids"])
        return Batch(case, arrays, context={"decoder_only": True})

    run = write

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """``[{"generated_text"}]``."""
        return [[{"generated_text": text}] for text in texts_of(model.tokenizer, outputs)]

    decisions = choices


_GO_ON = ("GitForCausalLM", "BlipForConditionalGeneration")
"""Classes whose decoder takes its tokens as ``input_ids``, beside the picture."""

TASK = ImageToText()
