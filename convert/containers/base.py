"""Types of containers: an opened file and a writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from equipoise.convert.core.tensor import TensorHeader, TensorRef
from equipoise.convert.files.identity import FileIdentity


@dataclass(frozen=True)
class Container:
    """An opened file: its tensors by their names in the file, in file order.

    Attributes:
        format: The module's name, e.g. ``safetensors``.
        path: The file.
        tensors: References by name.
        metadata: The file's metadata (``format`` in safetensors, ``variant`` in HDF5 ...).
        left_out: Entries that are not weights (optimizer slots, counters) -> the reason.
        oddities: Remarks for the user, e.g. "legacy format", "unused bytes at the end".
        maps: Names of the upper maps that hold tensors, where a file has maps within maps: those of a name such as
            ``state_dict.model.encoder.weight`` cannot be told from the name alone.
        files: Further files that hold its tensors, where it has several.
        identities: The file and others that hold its tensors -> what they were before they were read.
        averages: Name of a variable -> its moving average, which stands under ``left_out``.
    """

    format: str
    path: Path
    tensors: Mapping[str, TensorRef]
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()
    maps: frozenset[str] = frozenset()
    files: tuple[Path, ...] = ()
    identities: Mapping[Path, FileIdentity] = field(default_factory=dict)
    averages: Mapping[str, TensorRef] = field(default_factory=dict)


class Writer(Protocol):
    """Writes one file; see :mod:`equipoise.convert.containers`."""

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None: ...

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Writes the bytes of the next header, in C order."""

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes of the file that are final."""

    def close(self) -> None:
        """Finishes the file and flushes it to disk."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
