"""What the bytes of a chunk say of its size before it is decompressed: tensorstore makes room for as much as a frame of Zstandard declares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from equipoise.convert.core.errors import ContainerError

HEAD_BYTES = 18
"""Longest header of a frame of Zstandard (RFC 8878)."""
SLACK_BYTES = 1 << 16
"""By how much a chunk may be larger than its values: what a compression adds to values that it cannot compress, indices of a shard."""
_MAGIC = bytes.fromhex("28b52ffd")
_DICTIONARY_BYTES = (0, 1, 2, 4)


def declared_size(head: bytes) -> int | None:
    """Returns the size that a frame of Zstandard declares for its content; None where it declares none.

    >>> declared_size(bytes.fromhex("28b52ffd200c")), declared_size(bytes.fromhex("28b52ffd0058"))
    (12, None)
    """
    if not head.startswith(_MAGIC) or len(head) <= len(_MAGIC):
        return None
    flags = head[len(_MAGIC)]
    is_single = flags >> 5 & 1
    width = (is_single, 2, 4, 8)[flags >> 6]
    start = len(_MAGIC) + 1 + (not is_single) + _DICTIONARY_BYTES[flags & 3]
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 * (width == 2) if width else None


def check_declared_sizes(heads: Iterable[bytes], chunk_bytes: int, file: Path, tensor: str) -> None:
    """Checks that no chunk declares more than a chunk of its array has.

    Raises:
        ContainerError: One does.
    """
    for head in heads:
        size = declared_size(head)
        if size is not None and size > chunk_bytes + SLACK_BYTES:
            raise _too_large(f"{size} bytes, decompressed", chunk_bytes, file, tensor)


def check_stored_size(size: int, chunk_bytes: int, file: Path, tensor: str) -> None:
    """Checks that the file of a chunk is no larger than its values can be.

    Raises:
        ContainerError: It is.
    """
    if size > 2 * chunk_bytes + SLACK_BYTES:
        raise _too_large(f"a file of {size} bytes", chunk_bytes, file, tensor)


def _too_large(found: str, chunk_bytes: int, file: Path, tensor: str) -> ContainerError:
    return ContainerError(
        "a chunk is larger than its array's chunks are",
        file=file,
        tensor=tensor,
        expected=f"{chunk_bytes} bytes",
        found=found,
        hint="the checkpoint is damaged or malicious; copy it again",
    )
