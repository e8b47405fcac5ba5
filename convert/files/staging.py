"""Builds a folder beside its final path and puts it into its place at the end.

``.NAME.equipoise/`` holds

- ``equipoise.progress.json``, which marks the folder as Equipoise's and says what is finished,
- ``equipoise.progress.NAME.json`` with what is known of a finished file,
- ``new/``: the output while it is written,
- ``old/``: what it replaces, until the new one is in its place,
- ``discarded/``: the same after it was checked that nothing in it is the user's.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import OutputError
from equipoise.convert.core.json_values import json_pieces
from equipoise.convert.files.atomic import sync_folder, write_atomic
from equipoise.convert.files.ownership import check_replaceable_folder

PROGRESS_NAME = "equipoise.progress.json"
_PROGRESS_PREFIX = "equipoise.progress."


class Staging:
    """The hidden folder ``.NAME.equipoise`` beside an output.

    Args:
        path: The output; a link is resolved.

    Raises:
        OutputError: The output is the root of the file system.

    Attributes:
        path: The final path.
        new: Where the output is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path((os.path.realpath if os.path.islink(path) else os.path.abspath)(path))
        if not self.path.name:
            raise OutputError(
                "the output is the root of the file system",
                file=self.path,
                hint="choose another folder",
            )
        self.folder = self.path.with_name(f".{self.path.name}.equipoise")
        self.new, self._old = self.folder / "new", self.folder / "old"
        self._discarded = self.folder / "discarded"
        self._created_parents: list[Path] = []
        self._lock_descriptor: int | None = None

    def open(self) -> dict[str, Any]:
        """Creates and locks the hidden folder, or takes over that of a run that was killed; returns what it saved.

        A folder that was moved away when the run was killed is moved back.

        Raises:
            OutputError: Another process writes the output, or what has the name of the hidden folder is the user's.
            OSError: It cannot be created.
        """
        self._make_parents()
        self._lock()
        progress = self._read_progress()
        if progress is None:
            raise self._not_ours()
        try:
            self.save(progress)
            self._restore_old()
            self.new.mkdir(exist_ok=True)
        except BaseException:
            if not progress:
                self.discard()
            raise
        return progress

    def _not_ours(self) -> OutputError:
        return OutputError(
            "what lies where the output is built was not made by Equipoise",
            file=self.folder,
            hint="move it away, or choose another folder for the output",
        )

    def _make_parents(self) -> None:
        """Creates missing parent folders and remembers which."""
        for parent in reversed(self.path.parents):
            if not parent.exists():
                parent.mkdir()
                self._created_parents.append(parent)

    def _lock(self) -> None:
        """Locks the hidden folder for this process; the operating system releases the lock when it ends."""
        while True:
            with suppress(FileExistsError):
                self.folder.mkdir()
            if self.folder.is_symlink() or not self.folder.is_dir():
                raise self._not_ours()
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            self._lock_descriptor = descriptor
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    "another process is writing this folder",
                    file=self.path,
                    hint="wait for it, or choose another folder",
                ) from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.folder)):
                    return
            self.release()  # the process that had it locked has removed it

    def _read_progress(self) -> dict[str, Any] | None:
        """Returns what a run saved, nothing if the hidden folder is new, or None if it is not Equipoise's."""
        try:
            saved = json.loads((self.folder / PROGRESS_NAME).read_bytes())
        except FileNotFoundError:
            # A kill before the first save leaves no more than its temporary file.
            start = f".{_PROGRESS_PREFIX}"
            names = [path.name for path in self.folder.iterdir()]
            return {} if all(name.startswith(start) for name in names) else None
        except (OSError, ValueError, RecursionError):
            return None
        return saved if isinstance(saved, dict) else None

    def save(self, progress: dict[str, Any]) -> None:
        """Saves what a later run of the same command can use."""
        write_atomic(self.folder / PROGRESS_NAME, json.dumps(progress))

    def save_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Saves what is known of a finished file."""
        write_atomic(self._record_path(name), json_pieces(record))

    def read_record(self, name: str) -> Any:
        """Returns what was saved of a finished file, or None if it cannot be read."""
        try:
            return json.loads(self._record_path(name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def _record_path(self, name: str) -> Path:
        return self.folder / f"{_PROGRESS_PREFIX}{name}.json"

    def _restore_old(self) -> None:
        """Moves a replaced folder back if nothing is in its place; removes it otherwise."""
        if self._old.exists() and not os.path.lexists(self.path):
            self._old.rename(self.path)
        self._remove_old()

    def _remove_old(self) -> None:
        """Removes a replaced folder.

        A kill may leave half of it, without the index that says what is whose, so that it gets another name first.
        """
        shutil.rmtree(self._discarded, ignore_errors=True)
        if self._old.exists():
            check_replaceable_folder(self._old)
            self._old.rename(self._discarded)
            shutil.rmtree(self._discarded, ignore_errors=True)

    def swap(self) -> None:
        """Puts the new folder into its place; removes the old one.

        Raises:
            OutputError: The old folder holds what Equipoise did not make; it stays as it is.
            OSError: It cannot be renamed.
        """
        sync_folder(self.new)
        if self.path.is_dir() and any(self.path.iterdir()):
            self.path.rename(self._old)
            try:
                # Nobody writes into it by its name any more: what is found now is all there is.
                check_replaceable_folder(self._old)
            except BaseException:
                self._old.rename(self.path)
                raise
        elif self.path.is_dir():
            self.path.rmdir()
        self.new.rename(self.path)
        sync_folder(self.path.parent)
        self._remove_old()
        self._remove()

    def discard(self) -> None:
        """Removes the new folder, and the parent folders that were created for it."""
        shutil.rmtree(self.new, ignore_errors=True)
        with suppress(OSError, OutputError):
            self._restore_old()
        self._remove()
        self.release()
        self.remove_parents()

    def _remove(self) -> None:
        """Removes the hidden folder unless something is left in it."""
        names = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        starts = (_PROGRESS_PREFIX, f".{_PROGRESS_PREFIX}")
        ours = {name for name in names if name.startswith(starts)}
        if names == ours:
            # The mark goes last: a kill leaves a folder that is known as Equipoise's, or an empty one.
            with suppress(OSError):
                for name in sorted(ours, key=lambda name: name == PROGRESS_NAME):
                    (self.folder / name).unlink()
                self.folder.rmdir()

    def release(self) -> None:
        """Releases the lock."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def remove_parents(self) -> None:
        """Removes the parent folders that were created and are empty."""
        while self._created_parents:
            parent = self._created_parents.pop()
            with suppress(OSError):
                parent.rmdir()
