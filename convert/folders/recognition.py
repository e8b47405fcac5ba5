"""Recognises what a folder is when no weights of a known name lie in it, or when those are not the whole model."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.framework_types import JsonValue
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.containment import check_readable
from equipoise.convert.folders.folder_kinds import FOLDER_KINDS, FolderKind

MODULES_NAME = "modules.json"
"""The file that lists the modules of a sentence-transformers model."""
_MAX_LISTED_PATHS = 10_000
_MAX_DEPTH = 4
_TRAINER_FOLDER = re.compile(r"checkpoint-(\d+)", re.ASCII)


def list_paths(folder: Path) -> list[str]:
    """Lists the files below a folder by their relative paths, sorted; follows no links to folders."""

    def walk(at: Path, depth: int) -> Iterable[Path]:
        for path in sorted(at.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if depth < _MAX_DEPTH:
                    yield from walk(path, depth + 1)
            else:
                yield path

    found = islice(walk(folder, 1), _MAX_LISTED_PATHS)
    return [path.relative_to(folder).as_posix() for path in found]


def matching_paths(kind: FolderKind, paths: Sequence[str]) -> list[str]:
    """Returns the paths that show a kind.

    >>> matching_paths(next(k for k in FOLDER_KINDS if k.name == "gguf"), ["a.gguf", "b/c.gguf"])
    ['a.gguf']
    """
    return [path for path in paths if any(_matches(path, sign) for sign in kind.signs)]


def _matches(path: str, sign: str) -> bool:
    parts, pattern = path.split("/"), sign.split("/")
    return len(parts) == len(pattern) and PurePosixPath(path).match(sign)


def find_model_folder(path: Path) -> Path:
    """Returns the folder with the ``config.json`` of a model: the folder itself, or the one below that it points to.

    Raises:
        CheckpointError: There is no config; the message says what the folder is, if that is known, and what to do.
    """
    if not path.is_dir() or (path / "config.json").is_file():
        return path
    try:
        return _model_folder(path)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", file=path) from error


def _model_folder(path: Path) -> Path:
    below = folder_below(path)
    if below is not None:
        return below[0]
    if any(path.glob("*_config.json")):
        raise CheckpointError(
            "there is no config.json, only a config of an early release or of a part",
            file=path,
            hint=f"`equipoise convert {path} OUTPUT --to pytorch` writes a folder with a config.json, where the "
            "config names its model type",
        )
    raise refuse_folder(path, None, "config.json and weights")


def folder_below(folder: Path) -> tuple[Path, str] | None:
    """Returns the folder below that holds the model, with a note that says so; None if there is no such folder.

    Raises:
        CheckpointError: There are several.
    """
    return _sentence_transformer(folder) or _trainer_checkpoint(folder)


def _sentence_transformer(folder: Path) -> tuple[Path, str] | None:
    """Returns the folder that ``modules.json`` names for the transformer, if that is a folder below."""
    names = module_folders(folder)
    if not names or not names[0]:
        return None
    return folder / names[0], f"{names[0]} was read: modules.json names it as the model"


def module_folders(folder: Path) -> list[str]:
    """Returns the folders of the modules of a sentence-transformers model, in their order; the first may be ``""``."""
    modules = _read_if_present(folder / MODULES_NAME)
    entries = [one for one in modules if isinstance(one, dict)] if isinstance(modules, list) else []
    names = [one.get("path") for one in entries]
    return [
        name
        for name in names
        if isinstance(name, str)
        and (not name or Path(name).name == name)
        and (folder / name).is_dir()
    ]


def notes_on_modules(folder: Path) -> list[str]:
    """Returns a note on the modules of a sentence-transformers model that hold weights of their own."""
    dense = [
        name
        for name in module_folders(folder)[1:]
        if any(
            (folder / name / file).is_file() for file in ("model.safetensors", "pytorch_model.bin")
        )
    ]
    if not dense:
        return []
    names = ", ".join(dense)
    return [f"{names} holds weights of its own (modules.json): they stay PyTorch's"]


def _trainer_checkpoint(folder: Path) -> tuple[Path, str] | None:
    """Returns the only ``checkpoint-N`` of a Trainer's output folder."""
    found = sorted(
        (int(name[1]), path)
        for path in folder.glob("checkpoint-*")
        if path.is_dir() and (name := _TRAINER_FOLDER.fullmatch(path.name))
    )
    if not found:
        return None
    if len(found) > 1:
        best = _best_checkpoint(folder)
        raise CheckpointError(
            "the output folder of a Trainer with several checkpoints",
            file=folder,
            found=", ".join(path.name for _, path in found)
            + (f"; trainer_state.json says that {best} is the best" if best else ""),
            hint=f"give one of them, e.g. {folder / best if best else found[-1][1]}",
        )
    return found[0][1], f"{found[0][1].name} was read: it is the only checkpoint of this Trainer"


def _best_checkpoint(folder: Path) -> str | None:
    """Returns the checkpoint that a Trainer's state calls the best, if it is in the folder."""
    states = [
        folder / "trainer_state.json",
        *sorted(folder.glob("checkpoint-*/trainer_state.json")),
    ]
    for path in reversed(states):
        state = _read_if_present(path)
        best = state.get("best_model_checkpoint") if isinstance(state, dict) else None
        name = Path(best).name if isinstance(best, str) else ""
        if _TRAINER_FOLDER.fullmatch(name) and (folder / name).is_dir():
            return name
    return None


def check_nothing_beside_weights(folder: Path) -> None:
    """Refuses a folder in which something lies beside the weights that changes the model, e.g. an adapter.

    Raises:
        CheckpointError: There is such a thing.
    """
    paths = [path.name for path in islice(folder.iterdir(), _MAX_LISTED_PATHS)]
    for kind in FOLDER_KINDS:
        if kind.beside_weights and (found := matching_paths(kind, paths)):
            raise refusal(kind, folder, found)


def recognise_paths(paths: Sequence[str]) -> FolderKind | None:
    """Returns the kind that files without weights of a known name show, e.g. those of a repository on the Hub.

    >>> recognise_paths(["README.md", "adapter_config.json"]).what
    'a PEFT adapter'
    """
    kinds = (kind for kind in FOLDER_KINDS if kind.to_do)
    return next((kind for kind in kinds if matching_paths(kind, paths)), None)


def refuse_folder(folder: Path, layout: str | None, expected: str) -> CheckpointError:
    """Returns the error for a folder without weights that can be read: it names what the folder is, if that is known.

    Args:
        folder: The folder.
        layout: The layout that was asked for, or None.
        expected: Names of files that would have been read.
    """
    paths = list_paths(folder)
    kind = recognise_paths(paths)
    if kind is not None:
        return refusal(kind, folder, matching_paths(kind, paths))
    description = f" of the layout {layout!r}" if layout else ""
    names = sorted({path.partition("/")[0] for path in paths})
    below = sorted({path.rpartition("/")[0] for path in paths if path.endswith("/config.json")})
    return CheckpointError(
        f"no weights{description} in this folder",
        file=folder,
        expected=expected,
        found=", ".join(names[:12]) or "nothing: an empty folder",
        hint=f"give a folder below: {', '.join(str(folder / one) for one in below[:4])}"
        if below
        else "download the weights too, or give the folder or file that holds them",
    )


def refusal(kind: FolderKind, folder: Path, found: Sequence[str]) -> CheckpointError:
    """Returns the error for a folder of a refused kind.

    Args:
        kind: The kind.
        folder: The folder.
        found: The paths that show it.
    """
    first = folder / found[0]
    models = [one for one in _models_below(folder) if kind.name == "diffusers"]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    # An adapter alone has no config of a model.
    has_model = kind.beside_weights and os.path.lexists(folder / "config.json")
    return CheckpointError(
        f"{kind.what} lies here" if has_model else f"{kind.what}: it is not read",
        file=folder,
        found=", ".join(found[:3]) + more,
        hint=kind.to_do.format(
            folder=str(folder),
            file=str(first),
            name=first.name,
            sign=str(first.parent),
            models=" or ".join(models) or "the text encoder",
            base=str(folder) if has_model else _base_of_adapter(folder),
        ),
    )


def _read_if_present(path: Path) -> JsonValue:
    """Returns the content of a small JSON file in the folder; None if there is no such file."""
    if not os.path.lexists(path):
        return None
    check_readable(path, path.parent)
    value: JsonValue = read_json(path, object)
    return value


def _base_of_adapter(folder: Path) -> str:
    """Returns what an adapter's config calls its base model, for a command line; BASE where it has no name."""
    config = _read_if_present(folder / "adapter_config.json")
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return shlex.quote(name) if isinstance(name, str) and name else "BASE"


def _models_below(folder: Path) -> list[str]:
    """Returns the folders right below whose config names a model type: the parts that transformers has classes for."""
    found = []
    for path in sorted(folder.glob("*/config.json")):
        config = _read_if_present(path)
        if isinstance(config, dict) and isinstance(config.get("model_type"), str):
            found.append(str(path.parent))
    return found
