"""Containers: one module each, found by its name; a reader and (where we write it) a writer.

What a module holds, so that it is picked up (``tests/convert/containers/test_contract.py`` runs over all):

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
