"""Flax msgpack: nested maps of arrays, as ``flax.serialization.to_bytes`` writes them.

Names are the keys joined by ``/``. An array is extension 1, ``msgpack((shape, dtype name, bytes))``; an array larger
than 2**30 bytes is a map of flat chunks. Flax keeps the insertion order of dicts, so the writer keeps the order of the
headers; the file is then byte for byte equal to Flax's own for the same tree. (Trees from a jitted ``init`` are sorted
by key.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from equipoise.convert.containers._msgpack.file_layout import compute_layout
from equipoise.convert.containers._msgpack.scanner import scan_file
from equipoise.convert.containers._msgpack.tree import read_tree, starts_as_map
from equipoise.convert.containers._shared.checks import check_headers
from equipoise.convert.containers._shared.slot_file import SlotFile, SlotWriter, create_file
from equipoise.convert.containers.base import Container
from equipoise.convert.core.tensor import DTYPES, TensorHeader

SUFFIXES = (".msgpack",)
CAN_SHARE_TENSORS = False
WRITABLE_DTYPES = frozenset(DTYPES)
"""Names of the dtypes that can be written."""
CHUNK_BYTES = 2**30
"""Flax's ``MAX_CHUNK_SIZE``: larger arrays are split into chunks of this size."""


def sniff(path: Path) -> bool:
    """Whether the file begins with a map that is empty or whose first key is a string."""
    return starts_as_map(path)


def read(path: Path) -> Container:
    """Reads the tree of the file.

    Raises:
        ContainerError: The file is not a tree of arrays, or two tensors have the same name.
    """
    tree = read_tree(path, scan_file(path))
    return Container("flax_msgpack", path, tree.tensors, {}, tree.left_out, tuple(tree.oddities))


class Writer(SlotWriter):
    """Writes one file; metadata is dropped, since the format cannot store it.

    Attributes:
        chunk_bytes: Size above which arrays are split; Flax reads any.
    """

    chunk_bytes: ClassVar[int] = CHUNK_BYTES

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=CAN_SHARE_TENSORS)
        pieces, slots, size = compute_layout(path, headers, self.chunk_bytes)
        create_file(path, pieces, size)
        self._file = SlotFile(path, slots)
