"""Text to audio: speech synthesis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.tasks.base import forward
from equipoise.validators.tasks.shared.text import tokenize

PCM16_STEP = 1 / 32768
"""One step of 16-bit audio: a smaller change cannot be stored or heard."""


class TextToAudio:
    """Models that synthesize speech in one forward pass, such as VITS.

    VITS adds random noise: its config must set ``noise_scale`` and ``noise_scale_duration`` to 0, or no two runs are
    equal.
    """

    name = "text-to-audio"
    aliases = ("text-to-speech",)
    auto_class = "AutoModelForTextToWaveform"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a model that returns a waveform from one forward pass."""
        return model.class_name in ("VitsModel", "FastSpeech2ConformerWithHifiGan")

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns sentences of different lengths."""
        return [{"text": "good morning"}, {"text": "hello"}, {"text": "the weather is fine today"}]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns cases of one text, of three, and of a longer one."""
        long = {**samples[0], "text": " ".join([str(samples[0]["text"])] * 4)}
        return [
            Case("single", (samples[0],)),
            Case("batch", take_cyclic(samples, 3)),
            Case("long", (long,)),
        ]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts."""
        return Batch(case, tokenize(model, case, [str(sample["text"]) for sample in case.samples]))

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """Returns the waveforms, zero after the end of each; their lengths are outputs of the model."""
        outputs = forward(runner, batch)
        if "sequence_lengths" not in outputs:
            return outputs
        wave = outputs["waveform"]
        valid = np.arange(wave.shape[1])[None] < outputs["sequence_lengths"][:, None]
        return {
            "waveform": np.where(valid, wave, 0).astype(wave.dtype),
            "sequence_lengths": outputs["sequence_lengths"],
        }

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``audio`` (1, samples) and ``sampling_rate``."""
        rate = model.config.get("sampling_rate", model.config.get("sample_rate"))
        return [{"audio": wave[None], "sampling_rate": rate} for wave in _waveforms(outputs)]

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the audio; its margin is one step of 16-bit audio."""
        return [
            Decision("audio", len(wave), "waveform", index, np.asarray(PCM16_STEP))
            for index, wave in enumerate(_waveforms(outputs))
        ]


def _waveforms(outputs: Arrays) -> list[Array]:
    waves = outputs["waveform"]
    lengths = outputs.get("sequence_lengths", np.full(len(waves), waves.shape[1]))
    return [wave[: int(length)] for wave, length in zip(waves, lengths, strict=True)]


TASK = TextToAudio()
