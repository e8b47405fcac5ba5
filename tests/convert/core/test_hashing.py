"""Hashes that are computed in the background."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.hashing import BackgroundHasher, hash_file
from equipoise.convert.core.tensor import BLOCK_BYTES, array_blocks

BYTES = np.random.default_rng(0).bytes(3 * BLOCK_BYTES + 17)
EXPECTED = hashlib.sha256(BYTES).hexdigest()


def test_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BYTES)
    with BackgroundHasher() as hashing:
        assert hash_file(tmp_path / "x") == hashing.file(tmp_path / "x").result() == EXPECTED


def test_array() -> None:
    with BackgroundHasher() as hashing:
        assert hashing.hash_array(np.frombuffer(BYTES, np.uint8)).result() == EXPECTED


def test_digest_passes_everything_on() -> None:
    pieces = list(array_blocks(np.frombuffer(BYTES, np.uint8), 1000))
    with BackgroundHasher() as hashing:
        first, second = hashing.new_stream(), hashing.new_stream()
        assert b"".join(first.tee(pieces)) == BYTES
        assert list(second.tee([])) == []
        assert first.result().result() == EXPECTED
        assert second.result().result() == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("step", [1 << 12, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5])
def test_follower(step: int, tmp_path: Path) -> None:
    """Bytes that are not final may change until the end."""
    path = tmp_path / "x"
    with BackgroundHasher() as hashing, open(path, "w+b", buffering=0) as file:
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
    with BackgroundHasher() as hashing:
        follower = hashing.follow_file(path)
        follower.hash_up_to(2 * len(BYTES))
        with pytest.raises(ContainerError):
            follower.result().result()
