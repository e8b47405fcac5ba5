"""Hashes of tensors while they pass, and of files in the background."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.hashing import FileHasher, PassingHash, hash_blocks, hash_file
from equipoise.convert.core.tensor import BLOCK_BYTES, array_blocks
from equipoise.convert.core.writeback import start_writeback

BYTES = np.random.default_rng(0).bytes(20 * BLOCK_BYTES + 17)
EXPECTED = hashlib.sha256(BYTES).hexdigest()
ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
"""BLAKE3 of ``abc``, as ``b3sum`` prints it."""


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


def test_blocks() -> None:
    blocks = list(array_blocks(np.frombuffer(BYTES, np.uint8), 100_000))
    assert hash_blocks([memoryview(b"a"), memoryview(b"bc")]) == ABC
    assert hash_blocks(blocks) == blake3(BYTES).hexdigest()
    assert hash_blocks(blocks, "sha256") == EXPECTED
    assert hash_blocks([], "sha256") == hashlib.sha256().hexdigest()


def test_passing_blocks() -> None:
    """Each block is hashed before it is passed on: a buffer may be reused for the next one."""
    buffer = bytearray(1)

    def reused() -> list[bytes]:
        seen = []
        for block in passing.tee(fill()):
            seen.append(bytes(block))
        return seen

    def fill() -> Iterator[memoryview]:
        for byte in b"abc":
            buffer[0] = byte
            yield memoryview(buffer)

    passing = PassingHash()
    assert reused() == [b"a", b"b", b"c"]
    assert passing.hexdigest() == ABC
    assert list(PassingHash().tee([])) == []


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


def test_writeback_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(BYTES)
    start_writeback(path, 0, len(BYTES))
    start_writeback(path, 5, 3 * len(BYTES))
    assert path.read_bytes() == BYTES
