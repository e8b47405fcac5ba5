"""Writes a report or another single file that the user named."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.core.errors import OutputError
from equipoise.convert.files.atomic import write_atomic
from equipoise.convert.files.ownership import check_replaceable_file


def write_output_file(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all; creates missing folders, and replaces only a file that Equipoise wrote.

    The content must name Equipoise near its beginning, see :data:`equipoise.convert.files.ownership.FILE_MARK`.

    Raises:
        OutputError: It cannot be written, or the file is the user's.
    """
    check_replaceable_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", file=path) from error
