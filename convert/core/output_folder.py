"""Writes an output folder atomically: as a hidden folder that is renamed at the end and resumed after a crash."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import CheckpointError, OutputError

PROGRESS_NAME = "equipoise.progress.json"
"""File in a partial folder that lists its finished files."""

_SPARE_BYTES = 16 << 20


class OutputFolder:
    """A folder that is written as ``.NAME.partial`` next to its final path.

    Args:
        path: The final path.
        force: Whether an existing folder may be replaced.
        fingerprint: Identifies the conversion; a partial folder with another fingerprint is discarded.
    """

    def __init__(self, path: Path, *, force: bool, fingerprint: str) -> None:
        self.path = Path(os.path.abspath(path))
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        self._force = force
        self._fingerprint = fingerprint
        self._created_parents: list[Path] = []
        self._lock_descriptor: int | None = None
        self.finished: dict[str, Any] = {}

    def open(self, source: Path, nbytes: int) -> None:
        """Checks permissions and free space, and resumes a partial folder of the same conversion.

        Raises:
            OutputError: The folder may not be written, or the disk is too full.
        """
        try:
            with self.errors():
                self._check_location(source)
                self._make_parents()
                if self.partial.is_symlink() or self.partial.is_file():
                    self.partial.unlink()
                self.partial.mkdir(exist_ok=True)
                self._lock()
                self._resume()
                self._save()
                free = shutil.disk_usage(self.partial).free
        except OutputError:
            self.release()
            self._remove_parents()
            raise
        done = sum(path.stat().st_size for path in self.partial.iterdir())
        if free + done < nbytes + _SPARE_BYTES:
            self.discard()
            raise OutputError(
                "the disk is too full",
                file=self.path,
                expected=f"{nbytes + _SPARE_BYTES - done} bytes",
                found=f"{free} bytes free",
            )

    def _check_location(self, source: Path) -> None:
        own = Path(os.path.realpath(source))
        target = Path(os.path.realpath(self.path))
        if target == own or target in own.parents:
            raise OutputError(
                "the output folder holds the source", file=self.path, hint="choose another folder"
            )
        if own.is_dir() and own in target.parents:
            raise OutputError(
                "the output folder lies inside the source",
                file=self.path,
                hint="choose a folder outside of it",
            )
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise OutputError("the output path is a file", file=self.path)
        if any(self.path.iterdir()) and not self._force:
            raise OutputError(
                "the output folder is not empty",
                file=self.path,
                hint="choose another folder, or replace this one with --force",
            )

    def _make_parents(self) -> None:
        """Creates missing parent folders and remembers which."""
        for parent in reversed(self.path.parents):
            if not parent.exists():
                parent.mkdir()
                self._created_parents.append(parent)

    def _remove_parents(self) -> None:
        """Removes the parent folders that were created and are empty."""
        while self._created_parents:
            parent = self._created_parents.pop()
            if not any(parent.iterdir()):
                parent.rmdir()

    def _lock(self) -> None:
        """Locks the partial folder for this process; the operating system releases the lock when it ends."""
        descriptor = os.open(self.partial, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OutputError(
                "another conversion is writing this folder",
                file=self.path,
                hint="wait for it, or choose another folder",
            ) from None
        self._lock_descriptor = descriptor

    def release(self) -> None:
        """Releases the lock on the partial folder."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def _resume(self) -> None:
        """Keeps the finished files of the same conversion; removes everything else."""
        try:
            state = json.loads((self.partial / PROGRESS_NAME).read_text())
            same = state["fingerprint"] == self._fingerprint
            self.finished = dict(state["finished"]) if same else {}
        except (OSError, ValueError, KeyError, TypeError):
            self.finished = {}
        for path in self.partial.iterdir():
            finished = self.finished.get(path.name)
            if finished is None or path.stat().st_size != finished["size"]:
                self.finished.pop(path.name, None)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        names = {path.name for path in self.partial.iterdir()}
        self.finished = {
            name: finished for name, finished in self.finished.items() if name in names
        }

    def finish_file(self, name: str, record: dict[str, Any]) -> None:
        """Records that a file is complete, so that a later run keeps it."""
        size = (self.partial / name).stat().st_size
        self.finished[name] = {"size": size, "record": record}
        self._save()

    def _save(self) -> None:
        state = {"fingerprint": self._fingerprint, "finished": self.finished}
        write_atomic(self.partial / PROGRESS_NAME, json.dumps(state))

    def commit(self) -> None:
        """Renames the folder to its final path.

        Raises:
            OutputError: It cannot be renamed.
        """
        with self.errors():
            (self.partial / PROGRESS_NAME).unlink()
            sync_folder(self.partial)
            old = self.path.with_name(f".{self.path.name}.replaced")
            if self.path.is_dir() and any(self.path.iterdir()):
                shutil.rmtree(old, ignore_errors=True)
                self.path.rename(old)
            self.partial.rename(self.path)
            sync_folder(self.path.parent)
            shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Removes the partial folder and the parent folders that were created for it."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.release()
        self._remove_parents()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Converts ``OSError`` into ``OutputError``, or into ``CheckpointError`` for a file that is only read.

        Raises:
            OutputError: Writing failed.
            CheckpointError: Reading a file outside of the folder failed.
        """
        try:
            yield
        except OSError as error:
            if self._is_elsewhere(error.filename):
                raise CheckpointError(
                    f"cannot be read: {error.strerror or error}", file=error.filename
                ) from error
            hints = {
                errno.ENOSPC: "make room, then run it again",
                errno.EFBIG: "the file size is limited here (`ulimit -f`, or the file system); write shards",
                errno.EDQUOT: "make room, then run it again",
                errno.EACCES: "choose a folder that you may write",
                errno.EROFS: "choose a folder that you may write",
                errno.EPERM: "choose a folder that you may write",
            }
            raise OutputError(
                f"cannot be written: {error.strerror or error}",
                file=self.path,
                hint=hints.get(error.errno or 0),
            ) from error

    def _is_elsewhere(self, name: object) -> bool:
        if not isinstance(name, (str, Path)):
            return False
        path = Path(os.path.abspath(name))
        inside = {self.path, self.partial} & set(path.parents)
        return not inside and path not in (self.path, self.partial, *self.path.parents)


def write_atomic(path: Path, text: str) -> None:
    """Writes a small file atomically."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's directory entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
