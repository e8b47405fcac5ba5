"""Reads samples from a command line, and returns results as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import PilImage
from equipoise.convert.files.output_file import write_output_file
from equipoise.validators.core.types import Answer, Sample, SampleValue
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Task

_LIST_FIELDS = ("candidate_labels", "video")
"""Fields of samples that are lists; on a command line their items are separated by commas."""


def parse_inputs(
    task: Task,
    model: ModelFolder,
    inputs: Sequence[str | Mapping[str, SampleValue]],
    given: Mapping[str, SampleValue] | None = None,
) -> list[Sample]:
    """Reads samples from a command line.

    Fields in ``given`` are those of every sample, as ``candidate_labels`` of a call of ``pipeline()``; the inputs are the others.

    A text that starts with ``{`` is a JSON object, and ``[{"role": ...}, ...]`` is a chat. If a sample of the task has one field, each text is a
    sample; else the texts are the fields of one sample, in their order or as ``name=value``.

    Raises:
        InputError: Their number or a name does not fit the task.
    """
    same = {
        name: _parse_field(name, value) if isinstance(value, str) else value
        for name, value in (given or {}).items()
    }
    return [{**same, **one} for one in _parse_fields(task, model, inputs, same)]


def _parse_fields(
    task: Task,
    model: ModelFolder,
    inputs: Sequence[str | Mapping[str, SampleValue]],
    same: Mapping[str, SampleValue],
) -> list[Sample]:
    """Reads those fields of samples that are not the same in all."""
    fields = [name for name in task.samples(model)[0] if name not in same]
    objects = [_parse_object(item) for item in inputs]
    if all(item is not None for item in objects):
        return [item for item in objects if item is not None]
    texts = [str(item) for item in inputs]
    if len(fields) == 1:
        return [{fields[0]: _parse_field(fields[0], text)} for text in texts]
    pairs = [text.partition("=") for text in texts]
    if all(name in fields for name, _, _ in pairs):
        return [{name: _parse_field(name, value) for name, _, value in pairs}]
    if len(texts) != len(fields):
        raise InputError(
            f"{task.name} takes {len(fields)} inputs",
            expected=" ".join(field.upper() for field in fields),
            found=f"{len(texts)}",
            hint="give them in this order, as NAME=VALUE, or one JSON object for each sample",
        )
    return [{field: _parse_field(field, text) for field, text in zip(fields, texts, strict=True)}]


def _parse_object(item: str | Mapping[str, SampleValue]) -> Mapping[str, SampleValue] | None:
    if isinstance(item, Mapping):
        return item
    if not item.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(item)
    except ValueError as error:
        raise InputError(f"not JSON: {error}", found=item) from error
    return value if isinstance(value, dict) else None


def _parse_field(name: str, text: str) -> SampleValue:
    if name in _LIST_FIELDS and not Path(text).exists():
        return [part.strip() for part in text.split(",") if part.strip()]
    if name in ("table", "word_boxes"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InputError(f"{name} is not JSON: {error}", found=text) from error
    return _parse_chat(text) or text if name == "text" else text


def _parse_chat(text: str) -> SampleValue:
    """Returns the messages of a chat, ``[{"role": ...}, ...]``; None for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        messages = json.loads(text)
    except ValueError:
        return None  # a text that begins with a bracket
    is_chat = bool(messages) and all(isinstance(one, dict) and "role" in one for one in messages)
    return messages if is_chat else None


def to_json(value: Answer, folder: Path | None = None, name: str = "0") -> Any:
    """Returns a result as JSON values; images become files of a folder or a short description.

    Args:
        value: The result.
        folder: Where to save images; None: they are only described.
        name: Stem of the file names.
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(item, folder, f"{name}-{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, folder, f"{name}-{index}") for index, item in enumerate(value)]
    if hasattr(value, "save") and hasattr(value, "mode"):
        if folder is None:
            return {"picture": {"size": list(value.size), "mode": value.mode}}
        write_output_file(folder / f"{name}.png", _encode_png(value))
        return str(folder / f"{name}.png")
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _encode_png(image: PilImage) -> bytes:
    """Returns an image as a PNG file that names Equipoise."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("generator", "equipoise")
    stream = BytesIO()
    image.save(stream, "png", pnginfo=info)
    return stream.getvalue()
