"""Containers: one module each, found by its name; a reader and (where we write it) a writer.

What a module holds, so that it is picked up (``tests/convert/formats/test_contract.py`` runs over all):

``SUFFIXES: tuple[str, ...]``
    File endings that make it the first candidate.
``sniff(path: Path) -> bool``
    Whether the first bytes are this container's; never raises on content, opens the file once.
``read(path: Path) -> Container``
    Headers only. Everything that a header can get wrong raises ``ContainerError`` here: bounds, overlaps,
    duplicate names, absurd shapes (the product must fit the bytes that are there), nesting, unsafe names.
    Work and memory are bounded by the file's size, not by numbers that the file declares.
``Writer(path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str])``
    Optional. Lays the file out at once from the headers, then takes each header's bytes (except aliases)
    through ``write(name, blocks)`` in the order of the headers, and ends with ``close()``. Writes exactly
    the file it is given, says through ``settled`` how much of it is final, raises ``ContainerError`` when the bytes do not fill the header's shape. As a
    context manager it closes on success and only releases the file descriptor on an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from equipoise.convert.tensor import TensorHeader, TensorRef


@dataclass(frozen=True)
class Container:
    """One file, opened: its tensors by the names that it spells, in file order.

    Attributes:
        format: The module's name, e.g. ``safetensors``.
        path: The file.
        tensors: References by name.
        metadata: What the file says about itself (``format`` in safetensors, ``variant`` in HDF5 ...).
        left_out: Entries that are no weights (optimizer slots, bookkeeping), with the reason.
        oddities: Remarks for a person, e.g. "legacy format", "unused bytes at the end".
    """

    format: str
    path: Path
    tensors: Mapping[str, TensorRef]
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()


class Writer(Protocol):
    """Writes one file; see the module's text."""

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None: ...

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Takes the bytes of the next header, in C order."""

    @property
    def settled(self) -> int:
        """How many of the file's first bytes will stay as they are."""

    def close(self) -> None:
        """Finishes the file and flushes it to disk."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
