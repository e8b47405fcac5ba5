"""Writes LevelDB's sorted table, the index of a TensorFlow checkpoint; nothing is compressed, as in TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable

from equipoise.convert.containers._bundle.encoding import varint
from equipoise.convert.containers._bundle.sorted_table import FOOTER_BYTES, TABLE_MAGIC
from equipoise.convert.core.hashing import masked_crc32c

_BLOCK_BYTES = 1 << 18
"""Size from which on a block is finished; TensorFlow's own."""
_RESTART_INTERVAL = 16
"""Number of keys after which one is stored whole."""
_RAW = b"\0"


def table_bytes(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns a table.

    Args:
        entries: Keys and values in ascending order of the keys.
    """
    out = bytearray()
    index, block = _Block(restart_interval=1), _Block(_RESTART_INTERVAL)
    finished: tuple[bytes, bytes] | None = None
    for key, value in entries:
        if finished is not None:
            index.add(_separator(finished[0], key), finished[1])
            finished = None
        block.add(key, value)
        if block.size >= _BLOCK_BYTES:
            finished = block.last_key, _append(out, block)
            block = _Block(_RESTART_INTERVAL)
    if finished is None:
        finished = block.last_key, _append(out, block)
    index.add(_successor(finished[0]), finished[1])
    places = _append(out, _Block(_RESTART_INTERVAL)) + _append(out, index)
    out += places.ljust(FOOTER_BYTES - len(TABLE_MAGIC), b"\0") + TABLE_MAGIC
    return bytes(out)


class _Block:
    """Collects entries; a key leaves out what it shares with the one before it."""

    def __init__(self, restart_interval: int) -> None:
        self._data = bytearray()
        self._restarts = [0]
        self._interval = restart_interval
        self._count = 0
        self.last_key = b""

    @property
    def size(self) -> int:
        """Number of bytes when it is finished."""
        return len(self._data) + 4 * (len(self._restarts) + 1)

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._count % self._interval:
            pairs = zip(key, self.last_key, strict=False)
            shared = next((at for at, (new, old) in enumerate(pairs) if new != old), -1)
            shared = min(len(key), len(self.last_key)) if shared < 0 else shared
        elif self._count:
            self._restarts.append(len(self._data))
        rest = key[shared:]
        self._data += varint(shared) + varint(len(rest)) + varint(len(value)) + rest + value
        self._count += 1
        self.last_key = key

    def finish(self) -> bytes:
        numbers = (*self._restarts, len(self._restarts))
        return bytes(self._data) + b"".join(one.to_bytes(4, "little") for one in numbers)


def _separator(last: bytes, following: bytes) -> bytes:
    """Returns a short key that is not smaller than one key and smaller than the next, as LevelDB chooses it.

    >>> _separator(b"layer_1/kernel", b"layer_3/bias")
    b'layer_2'
    """
    pairs = zip(last, following, strict=False)
    at = next((at for at, (one, other) in enumerate(pairs) if one != other), None)
    if at is None or last[at] == 0xFF or last[at] + 1 >= following[at]:
        return last
    return last[:at] + bytes([last[at] + 1])


def _successor(last: bytes) -> bytes:
    """Returns a short key that is not smaller than a key, as LevelDB chooses it."""
    at = next((at for at, byte in enumerate(last) if byte != 0xFF), None)
    return last if at is None else last[:at] + bytes([last[at] + 1])


def _append(out: bytearray, block: _Block) -> bytes:
    """Appends a block with its checksum, and returns its place: offset and length as varints."""
    data = block.finish()
    offset = len(out)
    stored = data + _RAW
    out += stored + masked_crc32c(stored).to_bytes(4, "little")
    return varint(offset) + varint(len(data))
