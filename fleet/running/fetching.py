"""Downloads the sources of jobs from the Hub, ahead of them, and removes what is no longer needed."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.checkpoints.hub import (
    HUB_SCHEME,
    HubRepository,
    parse_hub_id,
    resolve_source,
)
from equipoise.fleet.core.commands import COMMANDS
from equipoise.fleet.core.hub_retry import HubRetry
from equipoise.fleet.core.jobs import Job

_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds between the tries of a download that may work later."""
_BUDGET_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class FetchSettings:
    """Where downloads go.

    Attributes:
        cache: The folder of downloads; None is huggingface_hub's own cache, from which nothing is removed.
        budget: Bytes in ``cache`` beyond which nothing is fetched ahead; None sets no limit.
        waits: Seconds between the tries of a download that may work later.
    """

    cache: Path | None = None
    budget: int | None = None
    waits: Sequence[float] = _WAITS


class Fetcher:
    """Fetches the sources of jobs; several threads may use it.

    Args:
        settings: Where downloads go.
        sleep: Waits between tries.
    """

    def __init__(
        self, settings: FetchSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._uses: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._retry = HubRetry(settings.waits, sleep)

    def fetch(self, job: Job) -> str:
        """Returns the path of a job's source, and downloads it if it is on the Hub.

        Raises:
            InputError: It is not there, or the Hub did not answer often enough.
        """
        repository = self._repository(job)
        if repository is None:
            return job.source
        with self._lock:
            self._uses[repository.name] += 1
        self._wait_for_room()
        path = self._retry(
            lambda: resolve_source(
                job.source,
                _option(job, "--revision") if repository.revision is None else None,
                layout=_option(job, "--from"),
                variant=_option(job, "--variant"),
                cache=self._settings.cache,
            )
        )
        return str(path)

    def is_remote(self, job: Job) -> bool:
        """Checks whether the source of a job is on the Hub."""
        return self._repository(job) is not None

    def release(self, job: Job) -> None:
        """Removes a download that no other job of this process uses."""
        repository = self._repository(job)
        if repository is None:
            return
        with self._lock:
            self._uses[repository.name] -= 1
            if self._settings.cache is not None and self._uses[repository.name] <= 0:
                name = f"models--{repository.name.replace('/', '--')}"
                shutil.rmtree(self._settings.cache / name, ignore_errors=True)
                shutil.rmtree(self._settings.cache / ".locks" / name, ignore_errors=True)

    @staticmethod
    def _repository(job: Job) -> HubRepository | None:
        """Returns the repository of a job's source; a command of another worker names one with ``hf://`` alone."""
        is_ours = job.command in COMMANDS or job.source.startswith(HUB_SCHEME)
        return parse_hub_id(job.source) if is_ours and not Path(job.source).exists() else None

    def _wait_for_room(self) -> None:
        """Waits while the downloads of other jobs fill the budget."""
        cache, budget = self._settings.cache, self._settings.budget
        while cache is not None and budget is not None and _bytes_in(cache) >= budget:
            with self._lock:
                if sum(count for count in self._uses.values() if count > 0) <= 1:
                    return
            self._sleep(_BUDGET_POLL_SECONDS)


def download_folder(results: Path) -> Path:
    """Returns where this machine downloads to, in the folder of results."""
    return results.absolute() / "downloads" / socket.gethostname()


def _bytes_in(folder: Path) -> int:
    return sum(
        one.stat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink()
    )


def _option(job: Job, name: str) -> str | None:
    """Returns the value of an option among a job's arguments."""
    arguments = list(job.arguments)
    for index, one in enumerate(arguments):
        if one == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if one.startswith(f"{name}="):
            return one.partition("=")[2]
    return None
