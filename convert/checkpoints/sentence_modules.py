"""The modules of a sentence-transformers model besides its transformer: pooling, dense layers, normalization."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.atomic import write_atomic
from equipoise.convert.files.containment import reason_not_to_read
from equipoise.convert.files.identity import FileIdentity, check_unchanged
from equipoise.convert.folders.recognition import MODULES_NAME, module_folders

_MAX_DEPTH = 2


def write_sentence_modules(folder: Path, target: Path) -> list[str]:
    """Copies the modules besides the transformer, and the files that say how they are joined; returns the names of the files.

    A transformer that lies in a folder of its own (``0_Transformer``) is written at the top, so that ``modules.json`` is
    written anew.

    Args:
        folder: The folder of the transformer.
        target: The folder to write.

    Raises:
        CheckpointError: A file changed while it was copied.
    """
    root = find_root(folder)
    if root is None:
        return []
    files = {
        path.relative_to(root).as_posix(): path
        for path in _module_files(root)
        if not reason_not_to_read(path, root)
    }
    if root != folder:
        files |= {
            path.name: path for path in companion_files(root) if not (folder / path.name).exists()
        }
    identities = {path: FileIdentity.of(path) for path in files.values()}
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)
    check_unchanged(identities)
    if root != folder:
        modules = read_json(root / MODULES_NAME, [dict])
        modules[0] = {**modules[0], "path": ""}
        write_atomic(target / MODULES_NAME, json.dumps(modules, indent=2) + "\n")
    return list(files)


def notes_on_left_files(folder: Path) -> list[str]:
    """Returns a note for each file of a module that is not copied: links that lead elsewhere, pipes."""
    root = find_root(folder)
    paths = _module_files(root) if root is not None else []
    reasons = [(path, reason_not_to_read(path, root)) for path in paths if root is not None]
    return [
        f"{path.parent.name}/{path.name} is not copied: {reason}"
        for path, reason in reasons
        if reason
    ]


def find_root(folder: Path) -> Path | None:
    """Returns the folder with ``modules.json`` of the model that a transformer belongs to; None if it belongs to none.

    Args:
        folder: The folder of the transformer.
    """
    if module_folders(folder)[:1] == [""]:
        return folder
    return folder.parent if module_folders(folder.parent)[:1] == [folder.name] else None


def _module_files(root: Path) -> list[Path]:
    """Returns all files of the modules besides the transformer."""
    names = [name for name in module_folders(root)[1:] if name]
    return [path for name in names for path in _files(root / name, _MAX_DEPTH)]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if depth > 1:
                yield from _files(path, depth - 1)
        else:
            yield path
