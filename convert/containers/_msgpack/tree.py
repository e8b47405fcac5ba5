"""The tree of a msgpack file as tensors: names are the keys joined by slashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from equipoise.convert.containers._msgpack.file_layout import CHUNKED_KEY, CHUNKS_KEY, SHAPE_KEY
from equipoise.convert.containers._msgpack.scanner import ArrayNode, MapNode, Node, OtherNode
from equipoise.convert.containers._shared.checks import check_name, check_shape
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import Extent, ExtentRanges, TensorRef


@dataclass(frozen=True)
class TreeContent:
    """What a tree holds.

    Attributes:
        tensors: Its arrays by name.
        placeholders: Maps that stand for an array in another file, by name.
        left_out: Leaves that are no arrays -> the reason.
        oddities: Remarks for the user.
    """

    tensors: dict[str, TensorRef] = field(default_factory=dict)
    placeholders: dict[str, MapNode] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    oddities: list[str] = field(default_factory=list)


def starts_as_map(path: Path) -> bool:
    """Whether a file begins with a msgpack map that is empty or whose first key is a string."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(6)
    skip = {0xDE: 3, 0xDF: 5}.get(head[0] if head else 0, 1)
    is_map = head[:1] != b"" and (0x80 <= head[0] <= 0x8F or skip > 1)
    key = head[skip : skip + 1]
    return is_map and (head == b"\x80" or b"\xa0" <= key <= b"\xbf" or key in (b"\xd9", b"\xda"))


def read_tree(
    path: Path, root: MapNode, is_placeholder: Callable[[MapNode], bool] = lambda node: False
) -> TreeContent:
    """Returns the tensors below a map of a file.

    Args:
        path: The file.
        root: The map.
        is_placeholder: Says whether a map stands for an array in another file.

    Raises:
        ContainerError: It is not a tree of arrays, or two tensors have the same name.
    """
    found = TreeContent()
    names: set[str] = set()
    for name, node in _walk_leaves("", root, is_placeholder):
        check_name(name, path)
        if name in names:
            raise ContainerError(
                "two entries have one name, since a key holds '/'", file=path, tensor=name
            )
        names.add(name)
        if isinstance(node, OtherNode):
            found.left_out[name] = f"{node.kind}, not a tensor"
        elif isinstance(node, ArrayNode):
            found.tensors[name] = _tensor_ref(name, node, path)
            if node.scalar:
                found.oddities.append(
                    f"{name} is a numpy scalar; it is written as an array without axes"
                )
        elif CHUNKED_KEY in node.entries:
            found.tensors[name] = _chunked_ref(name, node, path)
        elif is_placeholder(node):
            found.placeholders[name] = node
        else:
            found.left_out[name] = "an empty map"
    return found


def _walk_leaves(
    path: str, node: Node, is_placeholder: Callable[[MapNode], bool]
) -> Iterator[tuple[str, Node]]:
    """Yields name and node of everything that is not a map of others."""
    is_leaf = (
        not isinstance(node, MapNode)
        or CHUNKED_KEY in node.entries
        or (path and not node.entries)
        or is_placeholder(node)
    )
    if is_leaf or not isinstance(node, MapNode):
        yield path, node
        return
    for key, value in node.entries.items():
        yield from _walk_leaves(f"{path}/{key}" if path else key, value, is_placeholder)


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
    stream = partial(_stream_chunks, parts)
    ref = TensorRef(
        name, dtype, shape, path, stream=stream, ranges=ExtentRanges(parts, shape, dtype)
    )
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
