"""Audio classification: labels of audio."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import Batch, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.audio import (
    audio_cases,
    extract_features,
    synthetic_audio_samples,
)
from equipoise.validators.tasks.shared.labels import ClassificationTask


class AudioClassification(ClassificationTask):
    """wav2vec2 and similar models, spectrogram transformers."""

    name = "audio-classification"
    auto_class = "AutoModelForAudioClassification"
    default_top_k = None  # a call of the pipeline without top_k returns all labels

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a classifier with a feature extractor for audio."""
        return (
            model.class_name.endswith(("ForSequenceClassification", "ForAudioClassification"))
            and model.has_feature_extractor
            and not model.has_image_processor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic audio."""
        return synthetic_audio_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`audio_cases`."""
        return audio_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the audio, with a mask if the model accepts one."""
        return Batch(case, extract_features(model, case.samples))

    run = run_single_pass


TASK = AudioClassification()
