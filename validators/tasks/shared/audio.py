"""Helpers of tasks on audio: synthetic samples, feature extraction, number of output frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Array, Arrays, CallOption, Case, Sample, SampleValue
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.media import open_audio
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.models.seeding import fixed_seed

SAMPLE_SECONDS = (0.8, 0.5, 1.1)
"""Durations of the synthetic samples."""

SAMPLE_RATE_HZ = 16000


def synthetic_audio(index: int) -> dict[str, SampleValue]:
    """Returns a tone with harmonics that gets louder and softer again; always the same for the same index."""
    time = (
        np.arange(int(SAMPLE_SECONDS[index % len(SAMPLE_SECONDS)] * SAMPLE_RATE_HZ))
        / SAMPLE_RATE_HZ
    )
    pitch = 220 * 2 ** (index * 5 / 12) * (1 + 0.05 * np.sin(2 * np.pi * 5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in (1, 2, 3))
    return {"array": (0.3 * tone * np.sin(np.pi * time / time[-1])).astype(np.float32),
            "sampling_rate": SAMPLE_RATE_HZ}  # fmt: skip


def synthetic_audio_samples(**fields: SampleValue) -> list[Sample]:
    """Returns three samples of different durations, each with the same further fields."""
    return [{"audio": synthetic_audio(index), **fields} for index in range(len(SAMPLE_SECONDS))]


def audio_cases(model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
    """Returns cases of one sample, of three with different durations, and of one with a duration that no other has."""
    first = load_audio(model, samples[0])
    rate = int(model.feature_extractor.sampling_rate)
    shortened = {
        **samples[0],
        "audio": {"array": first[: len(first) * 3 // 4], "sampling_rate": rate},
    }
    return [
        Case("single", (samples[0],)),
        Case("batch", take_cyclic(samples, 3)),
        Case("cut", (shortened,)),
    ]


def load_audio(model: ModelFolder, sample: Sample) -> Array:
    """Returns the audio of a sample at the model's sampling rate."""
    return open_audio(sample["audio"], int(model.feature_extractor.sampling_rate))


def extract_features(
    model: ModelFolder, samples: Sequence[Sample], **options: CallOption
) -> Arrays:
    """Returns the features of the samples, padded to the longest one if the feature extractor pads at all.

    Whisper, AST and CLAP have one length for all; the others return a mask. Random numbers of an extractor are the same
    each time.
    """
    extractor = model.feature_extractor
    waveforms = [load_audio(model, sample) for sample in samples]
    call_options: dict[str, CallOption] = {
        "sampling_rate": extractor.sampling_rate,
        "return_tensors": "np",
    }
    if not _pads_to_fixed_length(model):
        call_options.update(padding=len(waveforms) > 1, return_attention_mask=True)
    with fixed_seed():
        features = extractor(waveforms, **call_options, **options)
    return {name: _to_float32(np.asarray(value)) for name, value in features.items()}


def extract_waveform(model: ModelFolder, audio: Array, **options: CallOption) -> Arrays:
    """Returns the features of audio at the model's sampling rate, as the pipelines extract them."""
    extractor = model.feature_extractor
    with fixed_seed():
        features = extractor(
            audio,
            sampling_rate=extractor.sampling_rate,
            return_tensors="np",
            return_attention_mask=True,
            **options,
        )
    return {name: _to_float32(np.asarray(value)) for name, value in features.items()}


def split_audio(
    audio: Array, chunk: int, left: int, right: int
) -> Iterator[tuple[Array, tuple[int, int, int]]]:
    """Yields the chunks of audio that overlap, each with its length and what it shares with those before and after it.

    Args:
        audio: Samples.
        chunk: Length of a chunk in samples; this and the following are multiples of the model's frame.
        left: Samples that a chunk shares with the one before it.
        right: Samples that it shares with the one after it.
    """
    for start in range(0, len(audio), chunk - left - right):
        part = audio[start : start + chunk]
        is_last = start + chunk >= len(audio)
        before = 0 if start == 0 else left
        if len(part) > before:
            yield part, (len(part), before, 0 if is_last else right)
        if is_last:
            return


def chunk_lengths(
    seconds: float, shared: CallOption, rate: int, frame: int
) -> tuple[int, int, int]:
    """Returns the samples of a chunk, and of what it shares on the left and right, in multiples of a frame.

    Raises:
        InputError: Chunks share more than they have, or nothing would be left of them.
    """
    pair = seconds / 6 if shared is None else shared
    pair = list(pair) if isinstance(pair, list | tuple) else [pair, pair]
    if len(pair) != 2 or not all(isinstance(one, int | float) for one in pair):
        raise InputError("stride_length_s is one number or two", found=str(shared))
    chunk, left, right = (round(one * rate / frame) * frame for one in (seconds, *pair))
    if chunk - left - right <= 0:
        raise InputError(
            "chunks share more than they have",
            found=f"chunk_length_s {seconds}, stride_length_s {pair[0]} and {pair[1]}",
            hint="a longer chunk_length_s",
        )
    return int(chunk), int(left), int(right)


def count_output_frames(model: ModelFolder, num_samples: Array) -> Array:
    """Returns how many frames wav2vec2 and similar models compute from this many samples; without convolutions the same number."""
    kernels = model.config.get("conv_kernel") or []
    strides = model.config.get("conv_stride") or []
    length = np.asarray(num_samples)
    for kernel, stride in zip(kernels, strides, strict=True):
        length = (length - kernel) // stride + 1
    if model.config.get("add_adapter"):
        for _ in range(int(model.config.get("num_adapter_layers", 3))):
            length = (length - 1) // int(model.config.get("adapter_stride", 2)) + 1
    return length


def _pads_to_fixed_length(model: ModelFolder) -> bool:
    config = model.preprocessor_config
    extractor_config = config.get("feature_extractor", config)
    return any(name in extractor_config for name in ("chunk_length", "max_length", "truncation"))


def _to_float32(value: Array) -> Array:
    if value.dtype.kind in "iu":
        return value.astype(np.int64)
    return value.astype(np.float32) if value.dtype == np.float64 else value
