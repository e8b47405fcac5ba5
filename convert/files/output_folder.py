"""Writes an output folder atomically: it appears when it is complete, and a killed run is resumed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import CheckpointError, OutputError
from equipoise.convert.files.containment import hub_blobs
from equipoise.convert.files.ownership import check_replaceable_folder
from equipoise.convert.files.staging import Staging

_SPARE_BYTES = 16 << 20


class OutputFolder:
    """A folder that is built in a hidden folder beside its final path, see :class:`Staging`.

    Args:
        path: The final path; a link is resolved.
        force: Whether an existing folder may be replaced, if Equipoise made everything in it.
        fingerprint: Identifies what is written; what a run with another fingerprint left is removed.

    Attributes:
        path: The final path.
        partial: The folder to write into.
        finished: Finished files of an earlier run by name: ``size`` and ``sha256`` of each.
    """

    def __init__(self, path: Path, *, force: bool, fingerprint: str) -> None:
        self._staging = Staging(path)
        self.path = self._staging.path
        self.partial = self._staging.new
        self._force = force
        self._fingerprint = fingerprint
        self.finished: dict[str, Any] = {}

    def check(self, sources: Iterable[Path] = ()) -> None:
        """Checks whether the folder may be written or replaced; changes nothing.

        Args:
            sources: Files and folders that are read, which must not be replaced.

        Raises:
            OutputError: It may not.
        """
        with self.errors():
            for source in sources:
                self._check_apart(source)
            if not os.path.lexists(self.path):
                return
            if not self.path.is_dir():
                raise OutputError("the output path is a file", file=self.path)
            if not any(self.path.iterdir()):
                return
            if not self._force:
                raise OutputError(
                    "the output folder is not empty",
                    file=self.path,
                    hint="choose another folder, or replace this one with --force",
                )
            check_replaceable_folder(self.path)

    def _check_apart(self, source: Path) -> None:
        """Checks that a source is neither in the output nor around it, by its name and where it really lies."""
        target = Path(os.path.realpath(self.path))
        real = Path(os.path.realpath(source))
        named = Path(os.path.realpath(source.parent)) / source.name
        for place in (named, real):
            if target == place or target in place.parents:
                raise OutputError(
                    "the output folder holds the source",
                    file=self.path,
                    found=place,
                    hint="choose another folder",
                )
        blobs = hub_blobs(real if real.is_dir() else named.parent)
        if any(one in (target, *target.parents) for one in (real, blobs) if one and one.is_dir()):
            raise OutputError(
                "the output folder lies inside the source",
                file=self.path,
                hint="choose a folder outside of it",
            )

    def open(self, sources: Iterable[Path], nbytes: int) -> None:
        """Checks permissions and free space, and resumes what the same command left.

        Args:
            sources: Files and folders that are read.
            nbytes: Expected size in bytes.

        Raises:
            OutputError: The folder may not be written, or the disk is too full.
        """
        self.check(sources)
        try:
            with self.errors():
                progress = self._staging.open()
            self.check()  # a folder that a killed run had moved away is back
            with self.errors():
                self._resume(progress)
                self._save()
                free = shutil.disk_usage(self.partial).free
        except OutputError:
            self._staging.release()
            self._staging.remove_parents()
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

    def _resume(self, progress: dict[str, Any]) -> None:
        """Keeps the finished files of the same command; removes everything else."""
        finished = progress.get("finished")
        same = progress.get("fingerprint") == self._fingerprint and isinstance(finished, dict)
        kept: dict[str, Any] = {}
        for path in self.partial.iterdir():
            record = finished.get(path.name) if same and isinstance(finished, dict) else None
            if _is_finished(path, record):
                kept[path.name] = record
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.finished = kept

    def finish_file(self, name: str, sha256: str, record: Mapping[str, Any]) -> None:
        """Records that a file is complete, so that a later run keeps it while its hash is the same.

        Args:
            name: The file.
            sha256: Its hash.
            record: What a later run has to know of it.
        """
        self._staging.save_record(name, record)
        size = (self.partial / name).stat().st_size
        self.finished[name] = {"size": size, "sha256": sha256}
        self._save()

    def read_record(self, name: str) -> Any:
        """Returns the record of a finished file, or None if it is lost."""
        return self._staging.read_record(name)

    def _save(self) -> None:
        self._staging.save({"fingerprint": self._fingerprint, "finished": self.finished})

    def commit(self) -> None:
        """Puts the folder into its place.

        Raises:
            OutputError: It cannot be renamed, or what it would replace is the user's.
        """
        with self.errors():
            self._staging.swap()

    def discard(self) -> None:
        """Removes what was written, and the parent folders that were created for it."""
        self._staging.discard()

    def release(self) -> None:
        """Releases the lock; what is not in its place stays for a later run."""
        self._staging.release()

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
        hidden = self._staging.folder
        inside = {self.path, hidden} & set(path.parents)
        return not inside and path not in (self.path, hidden, *self.path.parents)


def _is_finished(path: Path, record: Any) -> bool:
    """Whether a file has the size that it had when it was finished; its hash is compared before it is used."""
    if not isinstance(record, dict) or path.is_symlink() or not path.is_file():
        return False
    return record.keys() >= {"size", "sha256"} and path.stat().st_size == record["size"]


@contextmanager
def replace_folder(
    path: Path, *, force: bool = True, sources: Iterable[Path] = (), nbytes: int = 0
) -> Iterator[Path]:
    """Yields a folder to write into; it takes the place of another at the end and is removed on any failure.

    Args:
        path: The final path.
        force: Whether to replace an existing folder, if Equipoise made everything in it.
        sources: Files and folders that are read, which must not be replaced.
        nbytes: Expected size in bytes.

    Raises:
        OutputError: The output must not be written, or the disk is full.
    """
    folder = OutputFolder(path, force=force, fingerprint="")
    folder.open(sources, nbytes)
    try:
        with folder.errors():
            yield folder.partial
        folder.commit()
    except BaseException:  # an interrupt must not leave a half-written folder either
        folder.discard()
        raise
    folder.release()
