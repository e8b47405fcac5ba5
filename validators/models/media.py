"""Reads images, audio and videos as arrays."""

from __future__ import annotations

import os
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import PilImage
from equipoise.convert.core.hints import install_hint
from equipoise.validators.core.types import Array, SampleValue

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def open_image(source: SampleValue) -> PilImage:
    """Opens an image in RGB, from a path, an array (height, width, 3) or a PIL image.

    Raises:
        InputError: The file does not exist or is not an image.
    """
    image = _pil()
    if isinstance(source, image.Image):
        return source.convert("RGB")
    if isinstance(source, np.ndarray):
        return image.fromarray(source).convert("RGB")
    try:
        with image.open(source) as opened:
            return opened.convert("RGB")
    except FileNotFoundError:
        raise InputError("no such image file", file=Path(source)) from None
    except OSError as error:
        raise InputError(
            "not an image that PIL can read",
            file=Path(source),
            found=str(error),
            hint="use a PNG or JPEG file",
        ) from error


def open_frames(source: SampleValue) -> list[PilImage]:
    """Opens the frames of a video: a list of images, a folder of images (sorted by name), or an animated GIF.

    Raises:
        InputError: There are no frames.
    """
    if isinstance(source, str | Path) and not os.path.isdir(source):
        return _read_gif(Path(source))
    if isinstance(source, str | Path):
        source = sorted(
            path for path in Path(source).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
        )
    frames = [open_image(frame) for frame in source]
    if not frames:
        raise InputError("the video has no frames", hint="use a folder of images, or a list")
    return frames


def open_audio(source: SampleValue, rate: int) -> Array:
    """Returns mono audio in float32 at this sampling rate: from a WAV file, from samples at this rate, or from the dict that
    ``pipeline()`` accepts.

    Raises:
        InputError: The file does not exist or is not a WAV file.
    """
    if isinstance(source, Mapping):
        samples = np.asarray(source["raw"] if "raw" in source else source["array"], np.float32)
        return resample(_mix_to_mono(samples), int(source["sampling_rate"]), rate)
    if isinstance(source, np.ndarray | list):
        return _mix_to_mono(np.asarray(source, np.float32))
    samples, file_rate = read_wav(Path(source))
    return resample(samples, file_rate, rate)


def read_wav(path: Path) -> tuple[Array, int]:
    """Returns mono samples between -1 and 1 and their sampling rate; from 8, 16, 24 or 32 bits.

    Raises:
        InputError: The file is not a WAV file with integer samples.
    """
    try:
        with wave.open(str(path)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except FileNotFoundError:
        raise InputError("no such audio file", file=path) from None
    except (wave.Error, EOFError, OSError) as error:
        raise InputError(
            "not a WAV file with integer samples",
            file=path,
            found=str(error),
            hint="convert it: ffmpeg -i INPUT -ac 1 -c:a pcm_s16le OUTPUT.wav",
        ) from error
    return _mix_to_mono(
        (_decode_pcm(raw, width) / 2 ** (8 * width - 1)).reshape(-1, channels).T
    ), rate


def write_wav(path: Path, samples: Array, rate: int) -> None:
    """Writes mono samples between -1 and 1 as a WAV file with 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def resample(samples: Array, rate: int, new_rate: int) -> Array:
    """Resamples audio with a windowed sinc: the filter of torchaudio, which ``pipeline()`` uses."""
    if rate == new_rate:
        return samples
    divisor = int(np.gcd(rate, new_rate))
    rate, new_rate = rate // divisor, new_rate // divisor
    cutoff = min(rate, new_rate) * 0.99
    width = int(np.ceil(6 * rate / cutoff))
    index = np.arange(-width, width + rate) / rate
    times = (np.arange(0, -new_rate, -1)[:, None] / new_rate + index[None]) * cutoff
    times = np.clip(times, -6, 6)
    kernels = np.sinc(times) * np.cos(times * np.pi / 12) ** 2 * cutoff / rate
    padded = np.pad(samples.astype(np.float64), (width, width + rate))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(index))[::rate]
    length = int(np.ceil(new_rate * len(samples) / rate))
    return np.asarray((windows @ kernels.T).ravel()[:length], np.float32)


def _decode_pcm(raw: bytes, width: int) -> Array:
    if width == 1:
        return np.frombuffer(raw, np.uint8).astype(np.float64) - 128
    if width == 3:
        bytes3 = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        padded = np.concatenate([np.zeros((len(bytes3), 1), np.uint8), bytes3], axis=1)
        return padded.reshape(-1).view("<i4").astype(np.float64) / 256
    return np.frombuffer(raw, f"<i{width}").astype(np.float64)


def _mix_to_mono(samples: Array) -> Array:
    mixed = samples if samples.ndim == 1 else samples.mean(axis=0)
    return np.asarray(mixed, np.float32)


def _read_gif(path: Path) -> list[PilImage]:
    image = _pil()
    try:
        with image.open(path) as opened:
            count = getattr(opened, "n_frames", 1)
            frames = []
            for index in range(count):
                opened.seek(index)
                frames.append(opened.convert("RGB"))
            return frames
    except FileNotFoundError:
        raise InputError("no such video file", file=path) from None
    except OSError as error:
        raise InputError(
            "videos must be folders of images or animated GIFs",
            file=path,
            found=str(error),
            hint="ffmpeg -i INPUT FOLDER/%04d.png",
        ) from error


def _pil() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError("images need PIL", hint=install_hint("tasks")) from error
    return Image
