"""Zero-shot audio classification: which sentence fits a sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.validators.core.types import Arrays
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Batch, Case, Decision, Sample, one_forward
from equipoise.validators.tasks.shared.audio import audio_cases, features, synthesised_samples
from equipoise.validators.tasks.shared.contrastive import best_label, compared, likeliest

TEMPLATE = "This is a sound of {}."
"""pipeline()'s sentence around a label."""

OUTPUT = "logits_per_audio"


class ZeroShotAudioClassification:
    """CLAP."""

    name = "zero-shot-audio-classification"
    aliases = ()
    auto_class = "AutoModel"

    def suits(self, model: ModelFolder) -> bool:
        """A tower for text and one for sounds, whose vectors are compared."""
        return (
            model.class_name.endswith("Model")
            and "audio_config" in model.config
            and "text_config" in model.config
            and model.has_tokenizer
            and model.has_feature_extractor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Synthesised sounds, with labels for what is heard."""
        return synthesised_samples(candidate_labels=["a flute", "a drum", "rain"])

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`audio_cases`."""
        return audio_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """The media of all samples and the texts of all labels."""
        return compared(model, case, features(model, case.samples), TEMPLATE, OUTPUT)

    run = one_forward

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """The labels with their scores, from the likeliest on."""
        return likeliest(model, batch, outputs[OUTPUT])

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """The best label."""
        return best_label(batch, OUTPUT, outputs[OUTPUT])


TASK = ZeroShotAudioClassification()
