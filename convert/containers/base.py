"""What a container module hands out: an opened file, and a writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from equipoise.convert.core.tensor import TensorHeader, TensorRef


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
    """Writes one file; see :mod:`equipoise.convert.containers`."""

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None: ...

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Takes the bytes of the next header, in C order."""

    @property
    def finished_bytes(self) -> int:
        """How many of the file's first bytes will stay as they are."""

    def close(self) -> None:
        """Finishes the file and flushes it to disk."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
