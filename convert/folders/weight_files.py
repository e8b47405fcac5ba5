"""Finds the weights in a folder: by the names of transformers, by the file ``checkpoint``, by the numbers of shards."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.files.containment import check_readable
from equipoise.convert.files.file_names import TASK_CONFIG, TASK_WEIGHTS
from equipoise.convert.folders.found_files import WeightFiles, several_weights
from equipoise.convert.folders.shard_index import without_index_ending
from equipoise.convert.folders.training_states import (
    find_distributed_checkpoint,
    find_orbax_checkpoint,
    find_t5x_checkpoint,
    find_zero_checkpoint,
)

WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.ckpt.index",
    "variables/variables.index",
)
"""Weight file names of transformers, in its order of preference."""

KERAS_WEIGHTS = ("model.weights.h5", "model.weights.json")
"""Files of Keras 3 in a folder; the second lists shards."""

LayoutOfFile = Callable[[Path], str | None]
"""Returns the layout that a file's name or metadata imply; None if neither does."""

_SHARD = re.compile(
    r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)", re.ASCII
)
_CHECKPOINT_LINE = re.compile(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_MAX_CHECKPOINT_FILE_BYTES = 1 << 20
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".hdf5",
    ".msgpack",
    ".keras",
)
_AUXILIARY = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|random_states|sampler|dl_state|adapter_model|loss|opt_state|"
    r"custom_checkpoint|.*_optim|.*optimizer).*|.*\.weights\.h5|consolidated\..*|mp_rank_.*|(bf16_|fp16_)?zero_pp_rank_.*"
)
"""Files beside weights that have the suffix of weights: states of a training, adapters, parts of others."""


def variant_names(name: str, variant: str | None) -> tuple[str, str]:
    """Returns what transformers calls the file of a variant, and its index of shards.

    >>> variant_names("model.safetensors", "fp16")
    ('model.fp16.safetensors', 'model.safetensors.index.fp16.json')
    >>> variant_names("model.safetensors", None)
    ('model.safetensors', 'model.safetensors.index.json')
    """
    if variant is None:
        return name, f"{name}.index.json"
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{variant}.{suffix}", f"{name}.index.{variant}.json"


def shard_count(path: Path) -> int | None:
    """Returns of how many shards a file is one, as its name says; None for a file that is no shard.

    >>> shard_count(Path("model-00001-of-00003.safetensors")), shard_count(Path("model.safetensors"))
    (3, None)
    """
    found = _SHARD.fullmatch(path.name)
    return int(found["count"]) if found else None


KINDRED: Mapping[str, tuple[str, ...]] = {
    "tensorflow": ("google",),
    "flax": ("t5x", "t5x-scanned"),
}
"""Layout -> others in files of the same framework, which who asks for it means too; the names of the tensors say which."""


def layout_from_filename(name: str) -> str | None:
    """Returns the layout that a file name implies; None for safetensors, which can hold any."""
    for ending, layout in (
        (".bin", "pytorch"),
        (".metadata", "pytorch"),
        ("_METADATA", "flax"),
        ("_states.pt", "pytorch"),
        (".weights.h5", "keras-hub"),
        (".weights.json", "keras-hub"),
        (".h5", "tensorflow"),
        (".msgpack", "flax"),
        (".index", "tensorflow"),
    ):
        if without_index_ending(name).endswith(ending):
            return layout
    return None


def find_weight_files(
    folder: Path, layout: str | None, variant: str | None, layout_of_file: LayoutOfFile
) -> WeightFiles | None:
    """Finds the weights in a folder; returns None if there are none.

    Args:
        folder: The folder.
        layout: Takes only weights of this layout.
        variant: Takes the weights of this variant, e.g. ``fp16``.
        layout_of_file: Says which layout a file has.

    Raises:
        CheckpointError: There are several, and nothing says which is meant; shards are missing.
    """
    if variant is not None:
        return _find_variant(folder, variant)
    for found in _candidates(folder):
        if layout is None or layout_of_file(found.entry) in (
            layout,
            *KINDRED.get(layout, ()),
            None,
        ):
            return found
    return None


def _candidates(folder: Path) -> list[WeightFiles]:
    """Returns the weights of a folder by preference; ambiguous ones raise only where nothing better was found."""
    found = [
        WeightFiles((path,))
        for name in WEIGHT_FILES
        if not name.endswith(".index") or "/" in name
        for path in (folder / name, folder / f"{name}.index.json")
        if os.path.lexists(path)
    ]
    found += [
        WeightFiles((path,))
        for path in sorted(folder.glob("saved_model/*/variables/variables.index"), reverse=True)
    ]
    for find in (
        find_tensorflow_checkpoint,
        _find_shards,
        _find_any_variant,
        find_zero_checkpoint,
        find_distributed_checkpoint,
        find_orbax_checkpoint,
        find_t5x_checkpoint,
        _find_keras_weights,
        _find_only_file,
    ):
        if found and find is not find_tensorflow_checkpoint:
            break
        try:
            more = find(folder)
        except CheckpointError:
            if found:
                break
            raise
        found += [more] if more is not None else []
    return found


def find_tensorflow_checkpoint(folder: Path) -> WeightFiles | None:
    """Finds the TensorFlow checkpoint that the file ``checkpoint`` names, or the only one.

    Raises:
        CheckpointError: There are several, and the file does not name one of them.
    """
    indices = sorted(
        path
        for path in folder.glob("*.index")
        if any(folder.glob(f"{_escape(_prefix(path))}.data-*"))
    )
    if not indices:
        return None
    named = _checkpoint_path(folder)
    chosen = next((path for path in indices if named == _prefix(path)), None)
    if chosen is not None:
        note = f"the file `checkpoint` names {named!r}: it was taken, of {len(indices)} checkpoints"
        return WeightFiles((chosen,), (note,) if len(indices) > 1 else (), is_standard=False)
    if len(indices) == 1:
        note = f"the file `checkpoint` names {named!r}, which is not there; {_prefix(indices[0])!r} was taken"
        return WeightFiles((indices[0],), (note,) if named else (), is_standard=False)
    raise several_weights(
        folder, "TensorFlow checkpoints", [folder / _prefix(path) for path in indices], named
    )


def _prefix(index: Path) -> str:
    """Returns the prefix of a checkpoint, which is empty for one that was saved as a folder: ``.index``."""
    return index.name.removesuffix(".index")


def _escape(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _checkpoint_path(folder: Path) -> str | None:
    """Returns the prefix that the file ``checkpoint`` names, without its folder; None if there is none."""
    path = folder / "checkpoint"
    if not os.path.lexists(path):
        return None
    check_readable(path, folder)
    if path.stat().st_size > _MAX_CHECKPOINT_FILE_BYTES:
        return None
    line = _CHECKPOINT_LINE.search(path.read_text(encoding="utf-8", errors="replace"))
    if line is None:
        return None
    return re.sub(r"\\(.)", r"\1", line[1]).rpartition("/")[2]


def _find_shards(folder: Path) -> WeightFiles | None:
    """Finds shards without an index; all numbers must be there.

    Raises:
        CheckpointError: A number is missing, or there are two sets of shards.
    """
    sets: dict[tuple[str, str, str], dict[int, Path]] = {}
    for path in sorted(folder.glob("*-of-*")):
        found = _SHARD.fullmatch(path.name)
        if found and found["suffix"] in _WEIGHT_SUFFIXES and not _AUXILIARY.fullmatch(path.name):
            key = (found["stem"], found["count"], found["suffix"])
            sets.setdefault(key, {})[int(found["number"])] = path
    if not sets:
        return None
    if len(sets) > 1:
        raise several_weights(
            folder, "sets of shards", [min(files.values()) for files in sets.values()]
        )
    ((stem, count, suffix), files) = next(iter(sets.items()))
    missing = [number for number in range(1, int(count) + 1) if number not in files]
    if missing:
        raise CheckpointError(
            f"shards are missing: {stem}-{missing[0]:05d}-of-{count}{suffix}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            file=folder,
            expected=f"{int(count)} shards",
            found=f"{len(files)} of them, and no index",
            hint="download the checkpoint again",
        )
    note = f"the index of shards is missing; all {int(count)} shards of {stem}{suffix} were read"
    return WeightFiles(tuple(files[key] for key in sorted(files)), (note,), is_standard=False)


def _variants(folder: Path) -> dict[str, Path]:
    """Returns variant -> its file or index; the first of transformers' order where a variant has several."""
    found: dict[str, Path] = {}
    for name in WEIGHT_FILES[:4]:
        stem, _, suffix = name.rpartition(".")
        for path in sorted(folder.glob(f"{stem}.*")):
            middle = re.fullmatch(
                rf"{stem}\.(?P<a>[\w-]+)\.{suffix}|{stem}\.{suffix}\.index\.(?P<b>[\w-]+)\.json"
                rf"|{stem}\.(?P<c>[\w-]+)\.{suffix}\.index\.json",
                path.name,
            )
            if middle and path.is_file() and not _SHARD.fullmatch(path.name):
                found.setdefault(next(filter(None, middle.groups())), path)
    return found


def _find_variant(folder: Path, variant: str) -> WeightFiles:
    found = _variants(folder)
    if variant not in found:
        raise CheckpointError(
            f"no weights of the variant {variant!r} in this folder",
            file=folder,
            expected=f"e.g. model.{variant}.safetensors",
            found=", ".join(path.name for path in found.values()) or "no variants",
        )
    return WeightFiles((found[variant],), is_standard=False)


def _find_any_variant(folder: Path) -> WeightFiles | None:
    found = _variants(folder)
    if not found:
        return None
    if len(found) > 1:
        raise several_weights(
            folder,
            "variants",
            list(found.values()),
            option="; convert, inspect and diff (for B: --variant-b) take --variant NAME",
        )
    ((variant, path),) = found.items()
    note = f"the weights of the variant {variant!r} were taken: there are no others"
    return WeightFiles((path,), (note,), is_standard=False)


def _find_keras_weights(folder: Path) -> WeightFiles | None:
    """Finds the weights of a KerasHub preset, those of its head too, or of a model that Keras saved in a folder."""
    names = (name for name in KERAS_WEIGHTS if os.path.lexists(folder / name))
    name = next(names, None)
    has_head = all(os.path.lexists(folder / one) for one in (TASK_CONFIG, TASK_WEIGHTS))
    files = (folder / str(name), *([folder / TASK_WEIGHTS] if has_head else []))
    return WeightFiles(files, is_standard=False) if name else None


def _find_only_file(folder: Path) -> WeightFiles | None:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _WEIGHT_SUFFIXES
        and path.is_file()
        and not _AUXILIARY.fullmatch(path.name)
    )
    if not found:
        return None
    if len(found) > 1:
        raise several_weights(folder, "files of weights", found)
    note = f"{found[0].name} was taken: there are no weights of another name"
    return WeightFiles((found[0],), (note,), is_standard=False)
