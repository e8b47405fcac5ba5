"""Writes files atomically, under temporary names that nobody else has."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_STEM_CHARACTERS = 100
"""Characters of a file's name that its temporary name keeps; the whole must fit into 255 bytes."""


def write_atomic(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Writes a file: it appears whole or not at all.

    A link is followed. A pipe or a device is written to, not replaced.

    Args:
        path: The file.
        content: Its content, or the pieces of its text.

    Raises:
        OSError: It cannot be written; a file of that name is as it was.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with open(path, "wb") as file:
            file.writelines(_encode(content))
        return
    target = Path(os.path.realpath(path))
    temporary = temporary_sibling(target)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            file.writelines(_encode(content))
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _encode(content: str | bytes | Iterable[str]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
    else:
        pieces = (content,) if isinstance(content, str) else content
        yield from (piece.encode("utf-8") for piece in pieces)


def temporary_sibling(path: Path) -> Path:
    """Returns a hidden path in the same folder that does not exist: ``.NAME.`` and twelve random digits, ``.tmp``."""
    return path.with_name(f"{temporary_prefix(path.name)}{secrets.token_hex(6)}.tmp")


def temporary_prefix(name: str) -> str:
    """Returns how the temporary names of a file begin."""
    return f".{name[:_STEM_CHARACTERS]}."


def sync_folder(folder: Path) -> None:
    """Flushes a folder's directory entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
