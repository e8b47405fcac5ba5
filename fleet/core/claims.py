"""Claims on jobs, so that two machines with one folder do not do the same job."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 180.0
"""Age of a claim that nobody renewed: its process or machine is gone."""


class Claims:
    """The claims of this process; a context manager that renews them while it is open, and gives them up at the end.

    Args:
        folder: The folder of all claims.
        stale_seconds: Age at which the claim of another is taken over.
    """

    def __init__(self, folder: Path, *, stale_seconds: float = STALE_SECONDS) -> None:
        self._folder = folder
        self._stale = stale_seconds
        self._mine: set[Path] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        for path in self._mine:
            path.unlink(missing_ok=True)

    def take(self, key: str) -> bool:
        """Claims a job; returns False where another process has it."""
        path = self._folder / key
        if path.exists() and not self._take_over(path):
            return False
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with open(number, "w", encoding="utf-8") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        with self._lock:
            self._mine.add(path)
        return True

    def give_up(self, key: str) -> None:
        """Gives a claim up: the job is done, or was interrupted."""
        path = self._folder / key
        with self._lock:
            self._mine.discard(path)
        path.unlink(missing_ok=True)

    def _take_over(self, path: Path) -> bool:
        """Removes the claim of a process that is gone; returns whether it did."""
        try:
            facts = path.stat()
            age = time.time() - facts.st_mtime
            owner = json.loads(path.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError):
            return False
        is_gone = owner.get("host") == socket.gethostname() and not _is_alive(owner.get("pid", 0))
        if not is_gone and age < self._stale:
            return False
        aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            os.rename(path, aside)
        except OSError:
            return False
        if aside.stat().st_ino != facts.st_ino:  # another was first, and has claimed the job
            os.rename(aside, path)
            return False
        aside.unlink(missing_ok=True)
        return True

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with self._lock:
                mine = list(self._mine)
            for path in mine:
                with suppress(OSError):
                    os.utime(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid > 0
