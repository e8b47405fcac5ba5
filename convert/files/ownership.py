"""Tells what Equipoise made from what is the user's; only the former is ever replaced.

A folder that Equipoise writes holds an index that lists its files: ``equipoise.json`` of a conversion, ``artifact.json``
of an export, and so on. What no index lists is the user's, and so is a listed file whose SHA-256 is not that in the index.
A file that Equipoise writes names it near its beginning.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

from equipoise.convert.core.errors import OutputError
from equipoise.convert.core.hashing import hash_file
from equipoise.convert.files.identity import FileIdentity

INDEX_TABLES = {
    "equipoise.json": (("target", "files"), ("companions",)),
    "artifact.json": (("files",), ("companions",)),
    "golden.json": (("files",),),
    "repro.json": (("files",),),
    "equipoise-environment.json": (("files",),),
}
"""Index of a folder -> where it lists the folder's files, as paths with slashes: names alone, or with their SHA-256, or with
``size`` and ``sha256``.
"""

FILE_MARK = "generator: equipoise"
"""What the comments at the beginning of a report or an architecture file say. JSON has a field, HTML a ``meta`` element,
PNG a text chunk of that name and value.
"""
_MARK = re.compile(rb'generator(?:" content=)?\W{1,4}equipoise\b')
_MARK_BYTES = 4096
_MAX_INDEX_BYTES = 1 << 30
_NAMES_SHOWN = 3
_HASHES_KEPT = 4096
_FIRST_CHARACTERS = 1 << 18
_ENTRY = re.compile(r'\s*\{\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_NEXT_ENTRY = re.compile(r'\s*,\s*("(?:[^"\\]|\\.)*")\s*:\s*')


@dataclass(frozen=True)
class _Recorded:
    """What an index says of a file; None is nothing."""

    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class _File:
    """A file that is the same under whatever path."""

    identity: FileIdentity
    path: Path = field(compare=False)


def check_replaceable_folder(folder: Path) -> None:
    """Checks that everything in a folder was made by Equipoise and is as it was written.

    Raises:
        OutputError: Something is the user's; the message names it.
        OSError: A file cannot be read.
    """
    listed = _listed_files(folder)
    kept = chain(_foreign_entries(folder, listed), _changed_files(folder, listed))
    foreign = list(islice(kept, _NAMES_SHOWN + 1))
    if not foreign:
        return
    index = next((name for name in INDEX_TABLES if name in listed), None)
    shown = ", ".join(foreign[:_NAMES_SHOWN]) + (" and more" if foreign[_NAMES_SHOWN:] else "")
    raise OutputError(
        "the output folder holds what Equipoise did not make, and it replaces only its own",
        file=folder,
        expected=f"nothing but the files that {index} lists, as they were written"
        if index
        else "a folder that it made",
        found=shown,
        hint="choose another folder, or move these away",
    )


def check_replaceable_file(path: Path) -> None:
    """Checks that a file does not exist, is empty, a device or a pipe, or was written by Equipoise.

    Raises:
        OutputError: It is a folder, or the user's.
    """
    try:
        if path.is_dir():
            raise OutputError("the output path is a folder", file=path)
        if not path.is_file():
            return
        with open(path, "rb") as file:
            beginning = file.read(_MARK_BYTES)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", file=path) from error
    if beginning and _MARK.search(beginning) is None:
        raise OutputError(
            "the file exists, and Equipoise did not write it",
            file=path,
            hint="choose another name, or move the file away",
        )


def list_entries(folder: Path) -> list[str]:
    """Returns all files, links and empty folders below a folder, sorted; compiled Python files are left out.

    Paths are relative, with slashes; an empty folder's ends with one.
    """
    return list(_entries(folder))


def _entries(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        at = Path(root).relative_to(folder)
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        if not folders and not files and at.parts:
            yield f"{at.as_posix()}/"
        for name in sorted(files + links):
            if not (at.name == "__pycache__" and name.endswith(".pyc")):
                yield (at / name).as_posix()


def _foreign_entries(folder: Path, listed: Mapping[str, _Recorded]) -> Iterator[str]:
    """Yields what an index does not list; without an index, what lies in the folder itself."""
    if listed:
        yield from (name for name in _entries(folder) if name not in listed)
        return
    for path in sorted(folder.iterdir()):
        yield f"{path.name}/" if path.is_dir() and not path.is_symlink() else path.name


def hash_entries(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of the regular files below a folder by their names with slashes, for an index."""
    return {
        name: hash_file(folder / name) for name in list_entries(folder) if (folder / name).is_file()
    }


def _changed_files(folder: Path, listed: Mapping[str, _Recorded]) -> Iterator[str]:
    """Yields the listed files whose content is not what an index records; one without a hash is known by its name."""
    for name, recorded in sorted(listed.items()):
        path = folder / name
        if recorded.sha256 is not None and os.path.lexists(path) and not _is_intact(path, recorded):
            yield f"{name} (changed since it was written)"


def _is_intact(path: Path, recorded: _Recorded) -> bool:
    """Returns whether a path is a regular file of the recorded content; hashes it only if its size fits."""
    try:
        file = _File(FileIdentity.of(path), path)
    except FileNotFoundError:  # a link that leads nowhere
        return False
    if not path.is_file() or recorded.size not in (None, file.identity.size):
        return False
    return _hash_once(file) == recorded.sha256


@lru_cache(maxsize=_HASHES_KEPT)
def _hash_once(file: _File) -> str:
    """Returns the SHA-256 of a file; a folder is checked before and after the work, and under two names."""
    return hash_file(file.path)


def _listed_files(folder: Path) -> dict[str, _Recorded]:
    """Returns the files that the indices of a folder list, the indices themselves included."""
    found: dict[str, _Recorded] = {}
    for index, tables in INDEX_TABLES.items():
        path = folder / index
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_INDEX_BYTES:
                continue
            content = _read_first_values(path, {keys[0] for keys in tables})
            parts = [_files_at(content, keys) for keys in tables]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        for part in parts:
            found |= {name: one for name, one in part.items() if one.sha256 or name not in found}
        found[index] = _Recorded()
    return found


def _read_first_values(path: Path, wanted: set[str]) -> dict[str, object]:
    """Returns the values of some keys of a JSON object; does not read on when it has them: an index may be large.

    Raises:
        ValueError: It is no JSON object before it has them.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read(_FIRST_CHARACTERS)
        found = _first_values(text, wanted)
        while not wanted <= found.keys() and (more := file.read(len(text))):
            text += more
            found = _first_values(text, wanted)
    return found if wanted <= found.keys() else json.loads(text)


def _first_values(text: str, wanted: set[str]) -> dict[str, object]:
    """Returns the values of the wanted keys that stand in the beginning of a JSON object."""
    decoder = json.JSONDecoder()
    found: dict[str, object] = {}
    entry = _ENTRY.match(text)
    while entry is not None and not wanted <= found.keys():
        try:
            key = json.loads(entry[1])
            value, end = decoder.raw_decode(text, entry.end())
        except ValueError:
            break
        if key in wanted:
            found[key] = value
        entry = _NEXT_ENTRY.match(text, end)
    return found


def _files_at(content: object, keys: tuple[str, ...]) -> dict[str, _Recorded]:
    """Returns the files under a key: the entries of an object, or the names in a list.

    Raises:
        KeyError: The key is missing.
        TypeError: There is something else.
    """
    for key in keys:
        if not isinstance(content, dict):
            raise TypeError(key)
        content = content[key]
    if isinstance(content, dict):
        return {name: _as_recorded(value) for name, value in content.items()}
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise TypeError(keys)
    return {name: _Recorded() for name in content}


def _as_recorded(value: object) -> _Recorded:
    """Returns what an index says of a file: its SHA-256, or ``size`` and ``sha256``.

    Raises:
        KeyError: It has no SHA-256.
        TypeError: It says something else.
    """
    size, sha256 = (value["size"], value["sha256"]) if isinstance(value, dict) else (None, value)
    if not isinstance(sha256, str) or not isinstance(size, (int, type(None))):
        raise TypeError(value)
    return _Recorded(sha256, size)
