"""Reads lists of jobs: JSON lines, folders of models, ids of the Hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.hub import HUB_SCHEME, parse_hub_id
from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.commands import Command
from equipoise.fleet.core.hub_filter import SCHEME, list_repositories
from equipoise.fleet.core.jobs import Job, installed_software, option_arguments

_FIELDS = ("source", "options", "artifacts")
_MODEL_MARKS = (
    "config.json", "*.safetensors", "*.h5", "*.msgpack", "*.bin", "*.index", "*.pt", "*.ckpt", "*.pth",
)  # fmt: skip
"""A folder with one of these is a model."""
_DEPTH = 2
"""How deep models lie below a folder: ``FOLDER/model``, or ``FOLDER/owner/model`` as on the Hub."""


def read_jobs(command: Command, job_list: str, arguments: Sequence[str] = ()) -> list[Job]:
    """Returns the jobs of a list, each once.

    A line of a file is a source, or ``{"source": ..., "options": {"to": "flax"}, "artifacts": [...]}``; a path is relative to the
    file, or else to the working directory. A folder stands for the models in it.

    Args:
        command: What is done with each source.
        job_list: A file with a job a line, a folder of models, or a filter of the Hub: ``hf://?library=tf&author=google``.
        arguments: Options of the command for all jobs, as on its command line.

    Raises:
        InputError: The list cannot be read, a line is wrong, or there is no job.
    """
    path = Path(job_list)
    if job_list.startswith(SCHEME):
        entries: Iterable[dict[str, Any]] = ({"source": one} for one in list_repositories(job_list))
    else:
        entries = _of_folder(path) if path.is_dir() else _of_file(path)
    jobs: dict[str, Job] = {}
    for entry in entries:
        artifacts = [str(one) for one in entry.get("artifacts") or ()]
        own = option_arguments(entry.get("options") or {})
        job = make_job(command, entry["source"], artifacts, (*arguments, *own))
        jobs.setdefault(job.key, job)
    if not jobs:
        raise InputError(
            "there is no job", file=job_list, expected="a source a line, or a folder of models"
        )
    return list(jobs.values())


def make_job(
    command: Command, source: str, artifacts: Sequence[str] = (), arguments: Sequence[str] = ()
) -> Job:
    """Returns the job of a command of Equipoise on a source as it is now.

    Args:
        command: What is done.
        source: A path, or an id of the Hub.
        artifacts: Paths of programs, which come first on the command line.
        arguments: The other arguments.
    """
    source = _unambiguous(source)
    identity = source_identity(source, artifacts)
    return Job(command, source, (*artifacts, *arguments), identity, installed_software(command))


def _unambiguous(source: str) -> str:
    """Returns a source whose path cannot be taken for an id of the Hub, now and when it is gone: ``./owner/name``."""
    is_here = os.path.lexists(source) and not source.startswith(HUB_SCHEME)
    return f"./{source}" if is_here and parse_hub_id(source) is not None else source


def source_identity(source: str, artifacts: Sequence[str] = ()) -> str:
    """Returns a digest of the names, sizes and times of the files of a source and artifacts; of the name alone where one is not here."""
    digest = hashlib.sha256()
    for one in (source, *artifacts):
        path = Path(one)
        if not path.exists():
            digest.update(os.fsencode(one))
            continue
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                facts = file.stat()
                name = os.fsencode(file.relative_to(path))
                digest.update(name + f"\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _of_folder(folder: Path) -> Iterator[dict[str, Any]]:
    for path in _model_folders(folder, _DEPTH):
        yield {"source": os.fspath(path)}


def _model_folders(folder: Path, depth: int) -> Iterator[Path]:
    for path in sorted(one for one in folder.iterdir() if one.is_dir()):
        if path.name.startswith("."):
            continue
        if any(next(path.glob(mark), None) for mark in _MODEL_MARKS):
            yield path
        elif depth > 1:
            yield from _model_folders(path, depth - 1)


def _of_file(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("not a list of jobs: it is no text", file=path) from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield _entry(text, path, number)


def _check_kinds(values: dict[str, Any], path: Path, number: int) -> None:
    """Checks the kinds of a line's values.

    Raises:
        InputError: One is of another kind, or the source would be taken for an option.
    """
    artifacts, options = values.get("artifacts"), values.get("options")
    are_texts = isinstance(artifacts, list) and all(isinstance(one, str) for one in artifacts)
    if artifacts is not None and not are_texts:
        raise InputError(
            f"the artifacts of line {number} are no list of paths",
            file=path,
            found=json.dumps(artifacts),
        )
    if options is not None and not isinstance(options, dict):
        raise InputError(
            f"the options of line {number} are no object", file=path, found=json.dumps(options)
        )
    for one in (values["source"], *(artifacts or ())):
        if one.startswith("-"):
            raise InputError(
                f"line {number} has an option where a path belongs",
                file=path,
                found=one,
                hint=f"a path of that name is ./{one}",
            )


def _entry(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        values = json.loads(text) if text.startswith("{") else {"source": text}
    except ValueError as error:
        raise InputError(
            f"line {number} is not JSON: {error}", file=path, found=text[:80]
        ) from error
    if not isinstance(values.get("source"), str):
        raise InputError(f"line {number} names no source", file=path, found=text[:80])
    _check_kinds(values, path, number)
    if unknown := sorted(set(values) - set(_FIELDS)):
        raise InputError(
            f"line {number} has unknown fields",
            file=path,
            found=", ".join(unknown),
            expected=", ".join(_FIELDS),
        )
    candidates = [path.parent / one for one in (values["source"], *(values.get("artifacts") or ()))]
    source, *artifacts = (
        os.fspath(found) if found.exists() else given
        for found, given in zip(
            candidates, (values["source"], *(values.get("artifacts") or ())), strict=True
        )
    )
    return {**values, "source": source, "artifacts": artifacts}
