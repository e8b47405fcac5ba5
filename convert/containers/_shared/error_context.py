"""Adds the file name to errors of parsers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equipoise.convert.core.errors import ContainerError


@contextmanager
def add_file_to_errors(path: Path) -> Iterator[None]:
    """Adds the file to every ``ContainerError`` that does not name one."""
    try:
        yield
    except ContainerError as error:
        if error.file is not None:
            raise
        raise type(error)(
            error.message,
            file=path,
            tensor=error.tensor,
            expected=error.expected,
            found=error.found,
            hint=error.hint,
        ) from error
