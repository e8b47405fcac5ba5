"""Reads the samples of a file that the user provides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.json_values import describe_mismatch, read_json
from equipoise.convert.files.containment import check_readable

MEDIA_FIELDS = frozenset({"image", "images", "audio", "video", "frames"})
"""Fields of samples that are paths of files."""


_SHAPE = {
    **dict.fromkeys(("text?", "text_pair?", "question?", "context?", "query?"), str),
    **dict.fromkeys(("image?", "audio?", "hypothesis_template?", "task?"), str),
    "images?": [str],
    "frames?": [str],
    "video?": (str, [str]),
    "candidate_labels?": (str, [str]),
    "table?": {str: [(str, float)]},
    "word_boxes?": [[(str, [float])]],
}
_EXAMPLE = '[{"inputs": {"text": "..."}}, ...]'


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
        for file in (sorted(path.iterdir()) if os.path.isdir(path) else [path]) if inside else ():
            check_readable(file, folder)
        return str(path)
    return value


class FileSample(dict[str, Any]):
    """A sample of a call or from a file; a field that a task needs and the sample lacks is an error that names both.

    Args:
        fields: The fields, e.g. ``{"text": "Hello"}``.
        file: The file that holds the sample; None: a call.
        index: The sample's position, from 0.
    """

    def __init__(self, fields: Mapping[str, Any], file: Path | None, index: int) -> None:
        super().__init__(fields)
        self._file = file
        self._index = index

    def __missing__(self, field: str) -> Any:
        """Raises an error: the task needs the field."""
        raise InputError(
            f"sample {self._index} has no field {field!r}, which the task needs",
            file=self._file,
            found=", ".join(map(repr, self)) or "no fields",
        )


def read_samples(file: Path, *, inside: bool = False) -> list[Mapping[str, Any]]:
    """Reads the samples of a JSON file: a list of inputs, or of objects with ``inputs``.

    Paths of images and audio files are relative to the file.

    Args:
        file: The file.
        inside: Whether images and audio files must lie in its folder.

    Raises:
        InputError: The file does not exist, is not JSON, contains no sample, or a sample is malformed.
    """
    values = read_json(file, (list, dict))
    entries = values if isinstance(values, list) else [values]
    if not entries:
        raise InputError("there are no samples", file=file, expected=_EXAMPLE)
    return [_read_sample(file, index, entry, inside) for index, entry in enumerate(entries)]


def _read_sample(file: Path, index: int, entry: object, inside: bool) -> FileSample:
    fields: Any = entry.get("inputs", entry) if isinstance(entry, dict) else entry
    problem = describe_mismatch(fields, _SHAPE)
    if problem is not None:
        raise InputError(f"sample {index}: {problem}", file=file, expected=_EXAMPLE)
    if len({len(column) for column in fields.get("table", {}).values()}) > 1:
        raise InputError(f"sample {index}: columns of different lengths", file=file, tensor="table")
    return FileSample(resolve_media_paths(file.parent, fields, inside=inside), file, index)


def take_cyclic(samples: Sequence[Mapping[str, Any]], count: int) -> tuple[Mapping[str, Any], ...]:
    """Returns ``count`` samples; starts again with the first one if there are fewer."""
    return tuple(samples[index % len(samples)] for index in range(count))
