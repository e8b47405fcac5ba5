"""The folder of a fleet's results: every job's result is one file, and a job whose file is there is done."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.convert.core.errors import InputError, OutputError
from equipoise.convert.files.atomic import write_atomic
from equipoise.fleet.core.jobs import Job

Result: TypeAlias = Mapping[str, Any]
"""The result of a job: see :func:`equipoise.fleet.running.outcomes.result_of`."""

MARK = "fleet.json"
_VERSION = 1
_CONTENT = f'{{"generator": "equipoise", "version": {_VERSION}}}\n'
_LINE_HEAD = '{"key": "'
"""How each line of ``jobs/*.jsonl`` begins."""


class ResultStore:
    """The results of a fleet in a folder, which several processes and machines may write at the same time.

    ``jobs/HASH.jsonl`` are the lists of jobs, ``results/KE/KEY.json`` the results, ``outputs/NAME-KEY/`` what the commands wrote,
    ``index/`` short lines of the results for ``status``, which only saves reading them.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = (
            folder / "index" / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
        )

    @classmethod
    def create(cls, folder: Path) -> ResultStore:
        """Returns the store of a folder, which is made if it is not there.

        Raises:
            OutputError: The folder holds something else.
        """
        if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
            raise OutputError(
                "the folder holds something else than results of a fleet",
                file=folder,
                hint="a new or empty folder",
            )
        for part in ("jobs", "results", "outputs", "claims", "index"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        if not (folder / MARK).exists():
            write_atomic(folder / MARK, _CONTENT)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> ResultStore:
        """Returns the store of a folder with results.

        Raises:
            InputError: It has none.
        """
        if not (folder / MARK).is_file():
            raise InputError(
                "no results of a fleet",
                file=folder,
                expected=MARK,
                hint="the folder that --out of `equipoise fleet` named",
            )
        if _read_json(folder / MARK).get("version") != _VERSION:
            raise InputError(
                "the results are of another version", file=folder / MARK, expected=str(_VERSION)
            )
        return cls(folder)

    def add_jobs(self, jobs: Iterable[Job]) -> None:
        """Notes which jobs there are. Shards of one list write the same file."""
        lines = [json.dumps({"key": job.key, **job.as_dict()}) + "\n" for job in jobs]
        digest = sha256("".join(lines).encode()).hexdigest()[:16]
        path = self.folder / "jobs" / f"{digest}.jsonl"
        if not path.exists():
            write_atomic(path, lines)

    def jobs(self) -> Iterator[tuple[str, Job]]:
        """Yields every job once, with its key."""
        seen: set[str] = set()
        for path in sorted((self.folder / "jobs").glob("*.jsonl")):
            with open(path, encoding="utf-8") as file, _damage_named(path):
                for line in file:
                    values = json.loads(line)
                    if values["key"] not in seen:
                        seen.add(values["key"])
                        yield values["key"], Job.from_dict(values)

    def job_keys(self) -> set[str]:
        """Returns the keys of all jobs: the first field of each line."""
        found: set[str] = set()
        for path in (self.folder / "jobs").glob("*.jsonl"):
            with open(path, encoding="utf-8") as file, _damage_named(path):
                found.update(line[len(_LINE_HEAD) :].partition('"')[0] for line in file)
        return found

    def result_path(self, key: str) -> Path:
        """Returns where the result of a job lies once it is done."""
        return self.folder / "results" / key[:2] / f"{key}.json"

    def output_path(self, job: Job) -> Path:
        """Returns the folder of what a job's command writes."""
        return self.folder / "outputs" / f"{job.name}-{job.key[:8]}"

    def is_done(self, key: str) -> bool:
        """Checks whether a job is done."""
        return self.result_path(key).is_file()

    def done_keys(self) -> set[str]:
        """Returns the keys of all jobs that are done."""
        found: set[str] = set()
        for part in os.scandir(self.folder / "results"):
            if part.is_dir():
                names = (one.name for one in os.scandir(part.path))
                found.update(
                    name.removesuffix(".json") for name in names if not name.startswith(".")
                )
        return found

    def write(self, result: Result) -> None:
        """Writes the result of a job; from then on it is done."""
        path = self.result_path(result["key"])
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        line = {"key": result["key"], "status": result["status"], **_times(result)}
        with open(self._index, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self, key: str) -> dict[str, Any]:
        """Returns the result of a job that is done."""
        path = self.result_path(key)
        found = _read_json(path)
        if found.get("key") != key:
            raise _damaged(path)
        return found

    def forget(self, keys: Iterable[str]) -> None:
        """Removes results, so that their jobs are done again."""
        for key in keys:
            with suppress(FileNotFoundError):
                self.result_path(key).unlink()

    def summaries(self) -> Iterator[dict[str, Any]]:
        """Yields key, status, seconds and time of every job that is done; a result that no index has is read."""
        left = self.done_keys()
        lines: dict[str, dict[str, Any]] = {}
        for path in sorted((self.folder / "index").glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                # The last line of a process that was killed is no whole one; the result itself is read then.
                with suppress(ValueError, LookupError, TypeError):
                    values = json.loads(line)
                    former = lines.get(values["key"])
                    if former is None or former["finished"] <= values["finished"]:
                        lines[values["key"]] = values
        for key in left:
            found = lines.get(key)
            if found is None:
                result = self.read(key)
                found = {"key": key, "status": result["status"], **_times(result)}
            yield found


def _damaged(path: Path) -> InputError:
    return InputError(
        "the file is damaged",
        file=path,
        hint="remove it: its jobs are listed, or done, again by the next run",
    )


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Raises the error of a damaged file where its content is no text, or not what is expected."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path) from error


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the object of a file.

    Raises:
        InputError: It holds none.
    """
    with _damage_named(path):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise _damaged(path)
    return found


def _times(result: Result) -> dict[str, Any]:
    return {name: result["run"][name] for name in ("seconds", "finished")}
