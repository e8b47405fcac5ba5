"""A file that was changed or replaced has another identity, whatever its size and time of modification say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.files.identity import FileIdentity, check_unchanged


def overwrite(path: Path) -> None:
    path.write_bytes(b"two")


def replace_by_another(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"two")
    other.replace(path)


def remove_and_create(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"two")


@pytest.mark.parametrize("change", [overwrite, replace_by_another, remove_and_create])
def test_a_change_at_once_is_noticed(change: Callable[[Path], None], tmp_path: Path) -> None:
    """Of the same size, with the same time of modification, as soon as the file was looked at."""
    path = tmp_path / "file"
    for _ in range(10):
        path.write_bytes(b"one")
        times = os.stat(path)
        identity = FileIdentity.of(path)
        check_unchanged({path: identity})
        change(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert os.stat(path).st_size == identity.size
        assert os.stat(path).st_mtime_ns == identity.modified_ns
        with pytest.raises(CheckpointError, match="changed or replaced"):
            check_unchanged({path: identity})


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    identity = FileIdentity.of(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="changed or replaced"):
        check_unchanged({path: identity})
