"""The identity of a file: tells whether it was changed or replaced since it was looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError

_CLOCK_TICK_NS = 12_000_000
"""Longest step of the clock from which a kernel takes timestamps: 10 ms at 100 Hz, and a margin."""
_WHOLE_SECONDS_NS = 1_000_000_000


@dataclass(frozen=True)
class FileIdentity:
    """What changes whenever a file is written to or replaced.

    The size and the time of modification can be set to what they were; the time of the last change of the inode cannot.

    Attributes:
        size: In bytes.
        modified_ns: Time of the last modification in nanoseconds.
        changed_ns: Time of the last change of the inode in nanoseconds.
        inode: Its number.
        device: That of the file system.
    """

    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Returns the identity of a file now.

        Waits until the last change is older than a tick of the clock, so that a later change cannot have the same
        time: milliseconds, or a second where the file system knows whole seconds only.

        Raises:
            OSError: There is no such file.
        """
        while True:
            status = os.stat(path)
            is_coarse = status.st_ctime_ns % _WHOLE_SECONDS_NS == 0
            tick = _WHOLE_SECONDS_NS if is_coarse else _CLOCK_TICK_NS
            age = time.time_ns() - status.st_ctime_ns
            if not 0 <= age < tick:
                return cls(
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    status.st_ino,
                    status.st_dev,
                )
            time.sleep((tick - age) / _WHOLE_SECONDS_NS)


def check_unchanged(identities: Mapping[Path, FileIdentity]) -> None:
    """Checks that files are those that they were.

    Raises:
        CheckpointError: One was changed, replaced or removed.
    """
    for path, identity in identities.items():
        try:
            same = FileIdentity.of(path) == identity
        except OSError:
            same = False
        if not same:
            raise CheckpointError(
                "the file was changed or replaced while it was read; nothing is written",
                file=path,
                hint="run it again when nothing writes to the source any more",
            )
