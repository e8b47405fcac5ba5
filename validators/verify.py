"""Verifies artifacts and compares programs with models, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.convert.core.hashing import hash_file
from equipoise.convert.verify import Finding, is_read_by_nobody
from equipoise.exporters.artifact import MANIFEST_NAME, read_manifest
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.audit.content.report import AuditReport
from equipoise.validators.models.sources import ModelSource, program_backends, resolve_artifact

Progress = Callable[[str, int], None]
"""Called with the name of the file that is checked next, and its bytes."""


@dataclass(frozen=True)
class ArtifactVerification:
    """The result of verifying an artifact.

    Attributes:
        folder: The artifact.
        files: How many files were hashed.
        findings: All differences from the manifest; empty if there are none.
        foreign: Files that the manifest does not list and that nothing reads: README, licence, hidden files.
        audit: The audit of the weights; None without a source.
    """

    folder: Path
    files: int
    findings: tuple[Finding, ...]
    foreign: tuple[str, ...] = ()
    audit: AuditReport | None = None

    @property
    def same(self) -> bool:
        """Whether every file is as the manifest says and every weight is accounted for."""
        return not self.findings and not (
            self.audit and (self.audit.findings or self.audit.failure)
        )


def is_artifact(folder: Path) -> bool:
    """Checks whether a folder is an artifact: it holds ``artifact.json``."""
    return (folder / MANIFEST_NAME).is_file()


def find_program(path: Path) -> ModelSource | None:
    """Returns the program that a path is or holds; None if it is a checkpoint, or nothing that is known."""
    try:
        source = resolve_artifact(path)
    except EquipoiseError:
        return None
    return source if source.backend in program_backends() else None


def audit_program(program: ModelSource, model: Path, precision: str | None = None) -> AuditReport:
    """Audits the weights of a program against those of a model.

    Args:
        program: The program.
        model: The model's folder, or a file of weights, in any layout.
        precision: The dtype that the program is declared to have; None: that of most of its weights.
    """
    return Auditor(open_checkpoint(model), precision).audit(program.backend, program.path)


def verify_artifact(
    folder: Path, *, source: Path | None = None, progress: Progress = lambda name, nbytes: None
) -> ArtifactVerification:
    """Hashes every file of an artifact again; with a source, also audits its weights.

    Args:
        folder: The artifact.
        source: The model that it was exported from.
        progress: Called with the name of the file that is checked next, and its bytes.

    Raises:
        InputError: The manifest lists no files, or the folder holds no program.
        CheckpointError: There is no manifest, or no checkpoint at ``source``.
    """
    manifest = read_manifest(folder)
    listed: Mapping[str, Mapping[str, Any]] = manifest.get("files", {})
    if not listed:
        raise InputError(
            "the manifest lists no files",
            file=folder / MANIFEST_NAME,
            hint="export the model again",
        )
    findings = [one for name in listed for one in _check_file(folder, name, listed[name], progress)]
    unlisted = sorted(set(_file_names(folder)) - listed.keys() - {MANIFEST_NAME})
    foreign = tuple(name for name in unlisted if is_read_by_nobody(PurePosixPath(name).name))
    findings += [
        Finding("output", "the manifest does not list this file", name)
        for name in unlisted
        if name not in foreign
    ]
    audit = None
    if source is not None:
        checkpoint = open_checkpoint(source)
        findings += _check_source(checkpoint, manifest.get("source", {}), progress)
        program = find_program(folder)
        if program is None:
            raise InputError("the artifact holds no program", file=folder)
        progress("weights", sum(file.stat().st_size for file in checkpoint.files))
        audit = Auditor(checkpoint, manifest.get("precision")).audit(program.backend, program.path)
    return ArtifactVerification(folder, len(listed), tuple(findings), foreign, audit)


def _file_names(folder: Path) -> Iterator[str]:
    """Yields the files of a folder and of those below it, relative to it; links count as files."""
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            yield path.relative_to(folder).as_posix()


def _check_file(
    folder: Path, name: str, record: Mapping[str, Any], progress: Progress
) -> Iterator[Finding]:
    parts = PurePosixPath(name).parts
    path = folder.joinpath(*parts)
    if PurePosixPath(name).is_absolute() or ".." in parts:
        yield Finding("output", "the name leads out of the artifact", name)
        return
    if any(one.is_symlink() for one in (path, *path.parents) if folder in one.parents):
        yield Finding("output", "the file is a link", name)
        return
    if not path.is_file():
        yield Finding("output", "the file is missing", name)
        return
    progress(name, path.stat().st_size)
    found = hash_file(path)
    if found != record["sha256"]:
        yield Finding(
            "output", "the file has changed", name, expected=record["sha256"], found=found
        )


def _check_source(
    source: Checkpoint, recorded: Mapping[str, Any], progress: Progress
) -> Iterator[Finding]:
    """Yields the files of weights that are not those that the artifact was made from."""
    hashes = recorded.get("sha256", {})
    for file in source.files:
        if file.name in hashes:
            progress(file.name, file.stat().st_size)
            found = hash_file(file)
            if found != hashes[file.name]:
                problem = "not the file that the artifact was made from"
                yield Finding("source", problem, file.name, expected=hashes[file.name], found=found)
