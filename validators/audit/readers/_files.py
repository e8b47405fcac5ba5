"""Opens files of programs without reading them."""

from __future__ import annotations

import mmap
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError, ContainerError


def map_file(path: Path) -> memoryview:
    """Returns the bytes of a file, which are read where they are used.

    Raises:
        CheckpointError: There is no such file.
        ContainerError: It is empty.
    """
    if not path.is_file():
        raise CheckpointError("the file is missing", file=path)
    if not path.stat().st_size:
        raise ContainerError("the file is empty", file=path)
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
