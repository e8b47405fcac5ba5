"""Zero-shot audio classification: scores which label describes audio."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import (
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.audio import (
    audio_cases,
    extract_features,
    synthetic_audio_samples,
)
from equipoise.validators.tasks.shared.contrastive import (
    best_label_decisions,
    encode_pairs,
    rank_labels,
)

DEFAULT_TEMPLATE = "This is a sound of {}."
"""Text of a label; the default of pipeline()."""

LOGITS_NAME = "logits_per_audio"


class ZeroShotAudioClassification:
    """CLAP."""

    name = "zero-shot-audio-classification"
    aliases = ()
    auto_class = "AutoModel"

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
        """Returns the cases of :func:`audio_cases`."""
        return audio_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images or audio of all samples and the texts of all labels."""
        return encode_pairs(
            model, case, extract_features(model, case.samples), DEFAULT_TEMPLATE, LOGITS_NAME
        )

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the labels with their scores, most probable first."""
        return rank_labels(model, batch, outputs[LOGITS_NAME])

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the best label of every sample."""
        return best_label_decisions(batch, LOGITS_NAME, outputs[LOGITS_NAME])


TASK = ZeroShotAudioClassification()
