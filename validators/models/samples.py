"""Reads the samples of a file that the user provides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.files.containment import check_readable

MEDIA_FIELDS = frozenset({"image", "images", "audio", "video", "frames"})
"""Fields of samples that are paths of files."""


def resolve_media_paths(folder: Path, value: Any, name: str = "", *, inside: bool = False) -> Any:
    """Returns a sample whose media paths, relative to ``folder``, are joined with it.

    Args:
        folder: The folder.
        value: The sample, or a value in it.
        name: The field of the value.
        inside: Whether the files, or those in a folder of frames, must lie inside the folder.

    Raises:
        CheckpointError: A file must lie inside the folder and does not.
    """
    if isinstance(value, Mapping):
        return {
            key: resolve_media_paths(folder, inner, key, inside=inside)
            for key, inner in value.items()
        }
    if name in MEDIA_FIELDS and isinstance(value, list):
        return [resolve_media_paths(folder, inner, name, inside=inside) for inner in value]
    if name in MEDIA_FIELDS and isinstance(value, str):
        path = folder / value
        for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if inside else ():
            check_readable(file, folder)
        return str(path)
    return value


def read_samples(file: Path) -> list[Mapping[str, Any]]:
    """Reads the samples of a JSON file: a list of inputs, or of objects with ``inputs``.

    Paths of images and audio files are relative to the file.

    Raises:
        InputError: The file does not exist, is not JSON, or contains no sample.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except ValueError as error:
        raise InputError(f"not JSON: {error}", file=file) from error
    entries = values if isinstance(values, list) else [values]
    samples = [entry.get("inputs", entry) if isinstance(entry, dict) else None for entry in entries]
    if not samples or None in samples:
        raise InputError(
            "not a list of samples",
            file=file,
            expected='[{"inputs": {"text": "..."}}, ...]',
            found=type(values).__name__,
        )
    return [resolve_media_paths(file.parent, sample) for sample in samples]


def take_cyclic(samples: Sequence[Mapping[str, Any]], count: int) -> tuple[Mapping[str, Any], ...]:
    """Returns ``count`` samples; starts again with the first one if there are fewer."""
    return tuple(samples[index % len(samples)] for index in range(count))
