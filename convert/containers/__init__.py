"""Containers: file formats of tensors, one module each, found by its file name; a reader and optionally a writer.

A container module defines (``tests/convert/containers/test_contract.py`` tests all modules):

``SUFFIXES: tuple[str, ...]``
    File suffixes that make it the first candidate.
``sniff(path: Path) -> bool``
    Whether the first bytes belong to this container; never raises on content, opens the file once.
``read(path: Path) -> Container``
    Reads headers only. Every invalid header raises ``ContainerError``: bounds, overlaps, duplicate names, shapes that
    do not match the stored bytes, nesting, unsafe names. Time and memory are bounded by the file's size, not by
    numbers in the file.
``Writer(path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str])``
    Optional. Computes the file layout from the headers, then takes each header's bytes (except aliases) through
    ``write(name, blocks)`` in the order of the headers, and ends with ``close()``. Writes exactly the given file,
    reports through ``finished_bytes`` how much of it is final, and raises ``ContainerError`` if the bytes do not match
    the header's shape. As a context manager it closes on success and only releases the file descriptor on an error.

A container of several files stands in a folder of its own: ``FILENAME`` is the file that is read and written by that name,
``Container.files`` and ``Writer.further_files`` are the others.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

from equipoise.convert.core.plugins import PluginFolder

CONTAINERS = PluginFolder(__name__)


def container_names() -> tuple[str, ...]:
    """Returns the names of all containers, sorted; they are spelled as their files are, e.g. ``keras_hdf5``."""
    return tuple(name.replace("-", "_") for name in CONTAINERS.names())


def container_module(name: str) -> ModuleType:
    """Returns the module of a container.

    Raises:
        KeyError: There is no container of that name.
    """
    return cast("ModuleType", CONTAINERS.load(name.replace("_", "-")))
