"""Hashes of files that are computed in the background."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.hashing import hash_file
from equipoise.convert.core.tensor import BLOCK_BYTES
from equipoise.convert.files.file_hasher import FileHasher

BYTES = np.random.default_rng(0).bytes(20 * BLOCK_BYTES + 17)
EXPECTED = hashlib.sha256(BYTES).hexdigest()


def test_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BYTES)
    with FileHasher() as hashing:
        assert hash_file(tmp_path / "x") == hashing.file(tmp_path / "x").result() == EXPECTED


def test_file_that_vanishes(tmp_path: Path) -> None:
    """What fails on a thread is raised where its result is asked for, and other hashes go on."""
    (tmp_path / "x").write_bytes(BYTES)
    with FileHasher() as hashing:
        lost, found = hashing.file(tmp_path / "lost"), hashing.file(tmp_path / "x")
        assert found.result() == EXPECTED
        with pytest.raises(FileNotFoundError):
            lost.result()


@pytest.mark.parametrize("step", [BLOCK_BYTES - 1, BLOCK_BYTES, 9 * BLOCK_BYTES + 5])
def test_follower(step: int, tmp_path: Path) -> None:
    """Bytes that are not final may change until the end."""
    path = tmp_path / "x"
    with FileHasher() as hashing, open(path, "w+b", buffering=0) as file:
        file.truncate(len(BYTES))
        follower = hashing.follow_file(path)
        for start in range(0, len(BYTES), step):
            file.seek(start)
            file.write(BYTES[start : start + step])
            follower.hash_up_to(start + step if start + step < len(BYTES) else 0)
        assert follower.result().result() == EXPECTED


def test_follower_of_a_file_that_shrank(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(BYTES)
    with FileHasher() as hashing:
        follower = hashing.follow_file(path)
        follower.hash_up_to(2 * len(BYTES))
        with pytest.raises(ContainerError):
            follower.result().result()
