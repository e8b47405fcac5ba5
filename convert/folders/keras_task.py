"""The task of a KerasHub preset: a class with a head, whose weights lie in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from equipoise.convert.core.framework_types import JsonValue
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.containment import reason_not_to_read
from equipoise.convert.files.file_names import TASK_CONFIG


def read_task(folder: Path) -> Mapping[str, JsonValue] | None:
    """Returns ``task.json`` of a preset; None if it has none.

    Raises:
        CheckpointError: It is not JSON.
    """
    path = folder / TASK_CONFIG
    if not path.is_file() or reason_not_to_read(path, folder):
        return None
    values: Mapping[str, JsonValue] = read_json(path)
    return values
