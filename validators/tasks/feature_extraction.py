"""Feature extraction: the hidden states of a text."""

from __future__ import annotations

from collections.abc import Sequence

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
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.parameters.declarations import TOKENIZER
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.text import (
    text_cases,
    token_mask,
    tokenize,
    with_tokenizer_options,
)


class FeatureExtraction:
    """Base models without a head."""

    name = "feature-extraction"
    aliases = ()
    auto_class = "AutoModel"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a base model that accepts only text; models with a vision or audio tower do not suit."""
        return (
            model.class_name.endswith(("Model", "EncoderModel"))
            and not model.class_name.endswith(
                ("LMHeadModel", "EncoderDecoderModel", "DoubleHeadsModel", "MTModel")
            )
            and model.model_type != "vits"
            and "vision_config" not in model.config
            and "audio_config" not in model.config
            and model.has_tokenizer
            and not model.has_image_processor
            and not model.has_feature_extractor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns sentences of different lengths."""
        return [
            {"text": "The weather is fine today."},
            {"text": "A cat sleeps."},
            {"text": "Yesterday the children went to the lake and swam until the evening."},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`text_cases`."""
        return text_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts; the decoder of an encoder-decoder model gets them too."""
        if "truncation" in case.options and "truncation" in case.options.get(TOKENIZER, {}):
            raise InputError("truncation is given twice, once inside tokenize_kwargs")
        texts = [str(sample["text"]) for sample in case.samples]
        arrays = tokenize(model, with_tokenizer_options(case, "truncation"), texts)
        if model.config.get("is_encoder_decoder") and model.class_name.endswith("EncoderModel"):
            return Batch(case, arrays, valid={"last_hidden_state": token_mask(arrays)})
        if model.config.get("is_encoder_decoder"):
            arrays["decoder_input_ids"] = arrays["input_ids"]
        mask = token_mask(arrays)
        names = ("last_hidden_state", "encoder_last_hidden_state")
        return Batch(case, arrays, valid=dict.fromkeys(names, mask))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the vectors of the tokens as nested lists, without padding."""
        name = "last_hidden_state" if "last_hidden_state" in outputs else next(iter(outputs))
        if PIPELINE in batch.case.options:
            # A call has one text; what the tokenizer pads at the user's wish stays.
            vectors = [np.asarray(row)[None] for row in outputs[name]]
            return vectors if options.get("return_tensors") else [one.tolist() for one in vectors]
        mask = token_mask(batch.arrays)
        return [
            [np.asarray(row)[valid].tolist()]
            for row, valid in zip(outputs[name], mask, strict=True)
        ]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns no decisions: how the vectors are used is not known here."""
        return []


TASK = FeatureExtraction()
