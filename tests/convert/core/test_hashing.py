"""Hashes of tensors while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from blake3 import blake3

from equipoise.convert.core.hashing import PassingHash, hash_blocks
from equipoise.convert.core.tensor import BLOCK_BYTES, array_blocks

BYTES = np.random.default_rng(0).bytes(BLOCK_BYTES + 17)
EXPECTED = hashlib.sha256(BYTES).hexdigest()
ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
"""BLAKE3 of ``abc``, as ``b3sum`` prints it."""


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
