"""Zero-shot audio classification: scores which label describes audio."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import (
    Arrays,
    Case,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.audio import (
    audio_cases,
    extract_features,
    synthetic_audio_samples,
)
from equipoise.validators.tasks.shared.contrastive import ContrastiveTask, long_label_case


class ZeroShotAudioClassification(ContrastiveTask):
    """CLAP."""

    name = "zero-shot-audio-classification"
    auto_class = "AutoModel"
    template = "This is a sound of {}."
    output = "logits_per_audio"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a model with a text and an audio tower."""
        return (
            model.class_name.endswith("Model")
            and "audio_config" in model.config
            and "text_config" in model.config
            and model.has_tokenizer
            and model.has_feature_extractor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic audio with candidate labels."""
        return synthetic_audio_samples(candidate_labels=["a flute", "a drum", "rain"])

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`audio_cases`, and one of a label as long as the model takes."""
        return [*audio_cases(model, samples), long_label_case(model, samples[0])]

    run = run_single_pass

    def encode_media(self, model: ModelFolder, samples: Sequence[Sample]) -> Arrays:
        """Encodes the audio."""
        return extract_features(model, samples)


TASK = ZeroShotAudioClassification()
