"""Reads from a model's folder only what lies in it: no links to other files, no pipes, no devices."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError


def reason_not_to_read(path: Path, folder: Path) -> str:
    """Returns why a file of a folder is not read; empty if it may be.

    A file may be read if it is a regular file whose real path is inside the folder, or in the folder ``blobs`` of the Hub
    cache that the folder is a snapshot of (``snapshots/REVISION/config.json -> ../../blobs/HASH``).
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        mode = real.stat().st_mode
    except OSError as error:
        return (
            f"a link to nothing: {error.strerror}" if os.path.islink(path) else str(error.strerror)
        )
    if not stat.S_ISREG(mode):
        return "not a regular file"
    home = Path(os.path.realpath(folder))
    if home in real.parents or real.parent == hub_blobs(home):
        return ""
    return f"a link that leads out of the folder, to {real}"


def check_readable(path: Path, folder: Path) -> None:
    """Checks that a file may be read as part of a folder.

    Raises:
        CheckpointError: It is missing, not a regular file, or a link that leads out of the folder.
    """
    if reason := reason_not_to_read(path, folder):
        raise CheckpointError(
            f"it is not read, since it is {reason}"
            if os.path.lexists(path)
            else "there is no such file",
            file=path,
            expected="a regular file in the model's folder",
            hint="put a copy of the file into the folder if it belongs to the model",
        )


def hub_blobs(folder: Path) -> Path | None:
    """Returns the folder with the real files of a snapshot in the Hub cache, or None for any other folder.

    >>> hub_blobs(Path("/cache/models--google--vit/snapshots/3f49326/onnx"))
    PosixPath('/cache/models--google--vit/blobs')
    >>> hub_blobs(Path("/home/ada/vit"))
    """
    for path in (folder, *folder.parents):
        if path.parent.name == "snapshots":
            return path.parent.parent / "blobs"
    return None
