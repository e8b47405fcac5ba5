"""Flax msgpack: nested maps of arrays, as ``flax.serialization.to_bytes`` writes them.

Names are the keys joined by ``/``. An array is extension 1, ``msgpack((shape, dtype name, bytes))``; an array larger
than 2**30 bytes is a map of flat chunks. Flax keeps the insertion order of dicts, so the writer keeps the order of the
headers; the file is then byte for byte equal to Flax's own for the same tree. (Trees from a jitted ``init`` are sorted
by key.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from equipoise.convert.containers._msgpack.file_layout import (
    CHUNKED_KEY,
    CHUNKS_KEY,
    SHAPE_KEY,
    compute_layout,
)
from equipoise.convert.containers._msgpack.scanner import (
    ArrayNode,
    MapNode,
    Node,
    OtherNode,
    scan_file,
)
from equipoise.convert.containers._shared.checks import check_headers, check_name, check_shape
from equipoise.convert.containers._shared.slot_file import SlotFile, SlotWriter, create_file
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import DTYPES, Extent, TensorHeader, TensorRef

SUFFIXES = (".msgpack",)
CAN_SHARE_TENSORS = False
WRITABLE_DTYPES = frozenset(DTYPES)
"""Names of the dtypes that can be written."""
CHUNK_BYTES = 2**30
"""Flax's ``MAX_CHUNK_SIZE``: larger arrays are split into chunks of this size."""


def sniff(path: Path) -> bool:
    """Whether the file begins with a map that is empty or whose first key is a string."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(6)
    skip = {0xDE: 3, 0xDF: 5}.get(head[0] if head else 0, 1)
    is_map = head[:1] != b"" and (0x80 <= head[0] <= 0x8F or skip > 1)
    key = head[skip : skip + 1]
    return is_map and (head == b"\x80" or b"\xa0" <= key <= b"\xbf" or key in (b"\xd9", b"\xda"))


def read(path: Path) -> Container:
    """Reads the tree of the file.

    Raises:
        ContainerError: The file is not a tree of arrays, or two tensors have the same name.
    """
    tensors: dict[str, TensorRef] = {}
    left_out: dict[str, str] = {}
    oddities: list[str] = []
    for name, node in _walk_leaves("", scan_file(path)):
        check_name(name, path)
        if name in tensors or name in left_out:
            raise ContainerError(
                "two entries have one name, since a key holds '/'", file=path, tensor=name
            )
        if isinstance(node, OtherNode):
            left_out[name] = f"{node.kind}, not a tensor"
        elif isinstance(node, ArrayNode):
            tensors[name] = _tensor_ref(name, node, path)
            if node.scalar:
                oddities.append(f"{name} is a numpy scalar; it is written as an array without axes")
        elif CHUNKED_KEY in node.entries:
            tensors[name] = _chunked_ref(name, node, path)
        else:
            left_out[name] = "an empty map"
    return Container("flax_msgpack", path, tensors, {}, left_out, tuple(oddities))


def _walk_leaves(path: str, node: Node) -> Iterator[tuple[str, Node]]:
    """Yields name and node of everything that is not a map of others."""
    if not isinstance(node, MapNode) or CHUNKED_KEY in node.entries or (path and not node.entries):
        yield path, node
        return
    for key, value in node.entries.items():
        yield from _walk_leaves(f"{path}/{key}" if path else key, value)


def _tensor_ref(name: str, leaf: ArrayNode, path: Path) -> TensorRef:
    return TensorRef(name, leaf.dtype, leaf.shape, path, Extent(path, leaf.offset, leaf.nbytes))


def _chunked_ref(name: str, node: MapNode, path: Path) -> TensorRef:
    sizes = [
        item.value if isinstance(item, OtherNode) else None
        for item in _tuple_items(node, SHAPE_KEY)
    ]
    chunks = [
        item
        for item in _tuple_items(node, CHUNKS_KEY)
        if isinstance(item, ArrayNode) and len(item.shape) == 1
    ]
    shape_node, chunk_node = node.entries.get(SHAPE_KEY), node.entries.get(CHUNKS_KEY)
    complete = (
        node.entries.keys() == {CHUNKED_KEY, SHAPE_KEY, CHUNKS_KEY}
        and isinstance(shape_node, MapNode)
        and isinstance(chunk_node, MapNode)
        and len(shape_node.entries) == len(sizes)
        and len(chunk_node.entries) == len(chunks)
        and len({chunk.dtype for chunk in chunks}) == 1
    )
    if not complete:
        raise ContainerError(
            "a chunked array is incomplete",
            file=path,
            tensor=name,
            expected="a shape and flat chunks of one dtype, numbered from 0",
        )
    dtype = chunks[0].dtype
    parts = tuple(Extent(path, chunk.offset, chunk.nbytes) for chunk in chunks)
    shape = check_shape(sizes, dtype, file=path, tensor=name)
    ref = TensorRef(name, dtype, shape, path, stream=partial(_stream_chunks, parts))
    found = sum(part.nbytes for part in parts)
    if found != ref.nbytes:
        raise ContainerError(
            "the chunks do not match the shape",
            file=path,
            tensor=name,
            expected=f"{ref.nbytes} bytes for {dtype} {list(shape)}",
            found=f"{found} bytes",
        )
    return ref


def _stream_chunks(parts: Sequence[Extent]) -> Iterator[memoryview]:
    """Yields the bytes of the chunks of a tensor, in blocks; a block is valid until the next one."""
    for part in parts:
        yield from part.blocks()


def _tuple_items(node: MapNode, key: str) -> Iterator[Node]:
    """Yields the values ``"0"``, ``"1"``, ... of a map that represents a tuple."""
    row = node.entries.get(key)
    if isinstance(row, MapNode):
        for index in range(len(row.entries)):
            if str(index) in row.entries:
                yield row.entries[str(index)]


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
