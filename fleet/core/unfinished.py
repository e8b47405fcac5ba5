"""The folder of a run that is not finished: typed again, the run goes on there; finished, it leaves nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import count
from pathlib import Path

from equipoise.fleet.core.jobs import Job

_DIGITS = 16


@contextmanager
def unfinished_run(parent: Path, jobs: Sequence[Job]) -> Iterator[Path]:
    """Yields the folder of a run's results, which the same jobs find again until the run has ended well; then it is removed.

    Its name is a digest of the jobs. While another process uses it, the next of that name is used; where ``parent`` cannot be written, a
    temporary folder.
    """
    digest = sha256("\n".join(sorted(job.key for job in jobs)).encode()).hexdigest()[:_DIGITS]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if not os.access(parent, os.W_OK):
            raise PermissionError
    except OSError:
        with tempfile.TemporaryDirectory(prefix="equipoise-") as temporary:
            yield Path(temporary)
        return
    names = (digest if number == 1 else f"{digest}-{number}" for number in count(1))
    folder, lock = next(
        (parent / name, lock) for name in names if (lock := _lock(parent / name)) is not None
    )
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Locks a folder, which is made if it is not there, until the descriptor is closed; returns None where another process has it."""
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        os.close(descriptor)  # the process that had it has removed it
