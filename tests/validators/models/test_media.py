"""Images, audio and video are loaded from files; bad files raise clear errors."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.core.errors import InputError
from equipoise.validators.models.media import (
    open_audio,
    open_frames,
    open_image,
    read_wav,
    resample,
    write_wav,
)


def _tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32) / 2


@pytest.mark.parametrize(("width", "dtype"), [(1, "u1"), (2, "<i2"), (4, "<i4")])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav(tmp_path: Path, width: int, dtype: str, channels: int) -> None:
    tone = _tone(0.1, 8000)
    integers = np.round(tone * (2 ** (8 * width - 1) - 1))
    raw = (integers + 128 if width == 1 else integers).astype(dtype)
    _write(tmp_path / "a.wav", np.repeat(raw, channels).tobytes(), width, channels)
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tone, atol=1.5 / 2 ** (8 * width - 1))


def test_wav_with_24_bits(tmp_path: Path) -> None:
    integers = np.array([0, 1, -1, 2**23 - 1, -(2**23)], "<i4")
    raw = integers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    _write(tmp_path / "a.wav", raw, 3, 1)
    np.testing.assert_array_equal(
        read_wav(tmp_path / "a.wav")[0], (integers / 2**23).astype(np.float32)
    )


def test_wav_round_trip(tmp_path: Path) -> None:
    tone = _tone(0.2, 16000)
    write_wav(tmp_path / "a.wav", tone, 16000)
    np.testing.assert_allclose(open_audio(tmp_path / "a.wav", 16000), tone, atol=1 / 16000)


@pytest.mark.parametrize(("given", "wanted"), [(8000, 16000), (44100, 16000), (16000, 8000)])
def test_resampling_keeps_a_tone(given: int, wanted: int) -> None:
    found = resample(_tone(0.5, given), given, wanted)
    assert len(found) == wanted // 2
    inner = slice(wanted // 10, -wanted // 10)
    np.testing.assert_allclose(found[inner], _tone(0.5, wanted)[inner], atol=2e-3)


def test_audio_as_dictionary() -> None:
    tone = _tone(0.1, 8000)
    assert len(open_audio({"raw": tone, "sampling_rate": 8000}, 16000)) == 2 * len(tone)
    assert (
        open_audio({"array": np.stack([tone, tone]), "sampling_rate": 8000}, 8000).shape
        == tone.shape
    )
    np.testing.assert_array_equal(open_audio(tone, 8000), tone)


def test_bad_audio(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such audio file"):
        open_audio(tmp_path / "none.wav", 16000)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(InputError, match="ffmpeg"):
        open_audio(tmp_path / "text.wav", 16000)


def test_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    grey = image.fromarray(np.full((4, 6), 7, np.uint8))
    grey.save(tmp_path / "a.png")
    for source in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        grey,
        np.full((4, 6, 3), 7, np.uint8),
    ):
        found = open_image(source)
        assert (found.mode, found.size, found.getpixel((0, 0))) == ("RGB", (6, 4), (7, 7, 7))


def test_bad_images(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(InputError, match="no such image file"):
        open_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="not an image that PIL can read"):
        open_image(tmp_path / "text.png")


def test_video(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    frames = [image.fromarray(np.full((8, 8, 3), 40 * index, np.uint8)) for index in range(4)]
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(frames):
        frame.save(folder / f"{index:03}.png")
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    listed = [str(path) for path in sorted(folder.iterdir())]
    for source in (folder, listed, frames, tmp_path / "a.gif"):
        found = open_frames(source)
        assert [frame.getpixel((0, 0))[0] for frame in found] == [0, 40, 80, 120]


def test_bad_video(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(InputError, match="has no frames"):
        open_frames(tmp_path)
    with pytest.raises(InputError, match="no such video file"):
        open_frames(tmp_path / "a.gif")
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(InputError, match="folders of images"):
        open_frames(tmp_path / "a.mp4")


def _write(path: Path, raw: bytes, width: int, channels: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(raw)
