"""Finds the states that training frameworks save in parts: torch.distributed.checkpoint, DeepSpeed ZeRO, Orbax, T5X."""

from __future__ import annotations

import os
import re
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import is_plain_file_name
from equipoise.convert.files.containment import check_readable
from equipoise.convert.files.file_names import by_number
from equipoise.convert.folders.found_files import WeightFiles, several_weights

METADATA_NAME = ".metadata"
"""The file of torch.distributed.checkpoint that says which parts of which tensors lie where."""
ORBAX_METADATA_NAME = "_METADATA"
"""The file of an Orbax checkpoint that lists the leaves of its tree."""
T5X_NAME = "checkpoint"
"""The file of a T5X checkpoint beside the folders of its arrays."""
_T5X_STEP = re.compile(r"checkpoint_\d+", re.ASCII)
_T5X_UNFINISHED = re.compile(r"checkpoint_\d+\.tmp-\d+", re.ASCII)
ORBAX_UNFINISHED = ".orbax-checkpoint-tmp"
"""What the name of a folder holds that Orbax has not finished."""
_OPTIMIZER_NAME = re.compile(r"opt(im.*|_states?)?", re.IGNORECASE)
_MODEL_RANK = re.compile(r"mp_rank_(\d+)_", re.ASCII)
_PART = re.compile(r"layer_\d|expert_\d|expp_rank_")
_MAX_TAG_BYTES = 4096


def find_distributed_checkpoint(folder: Path) -> WeightFiles | None:
    """Finds a checkpoint of torch.distributed.checkpoint in a folder or right below it.

    Raises:
        CheckpointError: There are several, or the metadata is missing.
    """
    places = [path for path in (folder, *_folders(folder)) if any(path.glob("*.distcp"))]
    if not places:
        return None
    models = [path for path in places if not _OPTIMIZER_NAME.fullmatch(path.name)] or places
    if len(models) > 1 and models[0] != folder:
        raise several_weights(folder, "checkpoints of torch.distributed.checkpoint", models)
    metadata = models[0] / METADATA_NAME
    if not os.path.lexists(metadata):
        raise CheckpointError(
            "the metadata of this checkpoint of torch.distributed.checkpoint is missing",
            file=metadata,
            found=", ".join(sorted(path.name for path in models[0].iterdir())[:4]),
            hint="copy the whole folder, with its hidden files; a save that was interrupted has no metadata: take an earlier one",
        )
    return WeightFiles((metadata,), _note(folder, models[0]), is_standard=False)


def find_orbax_checkpoint(folder: Path) -> WeightFiles | None:
    """Finds an Orbax checkpoint: in a folder, as an item of it, or as the item of its only step.

    Raises:
        CheckpointError: There are several, or only one whose saving was not finished.
    """
    places = [path for path in (folder, *_folders(folder)) if _is_orbax(path)]
    steps = [path for path in _folders(folder) if path.name.isdecimal()]
    places += [path for step in steps for path in _folders(step) if _is_orbax(path)]
    if not places:
        if any(ORBAX_UNFINISHED in path.name for path in _folders(folder)):
            raise CheckpointError(
                "an Orbax checkpoint whose saving was not finished",
                file=folder,
                found=", ".join(path.name for path in _folders(folder)),
                hint="take an earlier one",
            )
        return None
    models = [path for path in places if not _OPTIMIZER_NAME.fullmatch(path.name)] or places
    if len(models) > 1 and models[0] != folder:
        raise several_weights(folder, "Orbax checkpoints", models)
    note = _note(folder, models[0])
    return WeightFiles((models[0] / ORBAX_METADATA_NAME,), note, is_standard=False)


def _is_orbax(folder: Path) -> bool:
    finished = ORBAX_UNFINISHED not in folder.name
    return finished and os.path.lexists(folder / ORBAX_METADATA_NAME)


def find_t5x_checkpoint(folder: Path) -> WeightFiles | None:
    """Finds a T5X checkpoint in a folder, or in the only ``checkpoint_N`` of the output of a training.

    Raises:
        CheckpointError: There are several, or only one whose saving was not finished.
    """
    steps = [path for path in _folders(folder) if is_t5x_step(path)]
    places = [path for path in (folder, *steps) if _is_t5x(path)]
    if not places:
        unfinished = [one.name for one in _folders(folder) if _T5X_UNFINISHED.fullmatch(one.name)]
        if unfinished:
            raise CheckpointError(
                "a T5X checkpoint whose saving was not finished",
                file=folder,
                found=", ".join(unfinished),
                hint="take an earlier one",
            )
        return None
    if len(places) > 1 and places[0] != folder:
        places.sort(key=lambda path: by_number(path.name))
        raise several_weights(folder, "T5X checkpoints", places)
    return WeightFiles((places[0] / T5X_NAME,), _note(folder, places[0]), is_standard=False)


def is_t5x_step(folder: Path) -> bool:
    """Whether a folder has the name of a step that T5X saves."""
    return _T5X_STEP.fullmatch(folder.name) is not None


def _is_t5x(folder: Path) -> bool:
    return os.path.lexists(folder / T5X_NAME) and any(folder.glob("target.*"))


def find_zero_checkpoint(folder: Path) -> WeightFiles | None:
    """Finds a DeepSpeed checkpoint: in a folder, in the one that the file ``latest`` names, or in the only one below.

    Raises:
        CheckpointError: There are several, or that which ``latest`` names is missing.
    """
    named = _latest(folder)
    places = [path for path in (folder, *_folders(folder)) if _state_files(path)]
    if named is not None:
        chosen = folder / named
        if chosen not in places and (places or any(folder.glob("*zero_to_fp32.py"))):
            raise CheckpointError(
                "the file `latest` names a folder without the states of DeepSpeed",
                file=folder / "latest",
                expected=f"{named}/*_states.pt",
                found=", ".join(path.name for path in places) or "no such states",
                hint=f"give one of them, e.g. {places[-1]}" if places else "copy the whole folder",
            )
        places = [chosen] if chosen in places else []
    if not places:
        return None
    if len(places) > 1 and places[0] != folder:
        raise several_weights(folder, "DeepSpeed checkpoints", places)
    _check_not_parallel(places[0])
    file = _state_files(places[0])[0]
    return WeightFiles((file,), _note(folder, places[0]), is_standard=False)


def _check_not_parallel(folder: Path) -> None:
    """Refuses states of which each holds other parts of the model: of tensor or pipeline parallelism, or of experts."""
    names = [path.name for path in folder.glob("*_states.pt")]
    ranks = {found[1] for name in names if (found := _MODEL_RANK.search(name))}
    layers = [name for name in names if _PART.match(name)]
    if len(ranks) > 1 or layers:
        raise CheckpointError(
            "a DeepSpeed checkpoint of a model that is split over processes is not read",
            file=folder,
            expected="one mp_rank, and no files of layers or experts",
            found=f"{len(ranks)} mp_ranks" if len(ranks) > 1 else ", ".join(sorted(layers)[:3]),
            hint="save the whole model where it was trained, or join it with the tools of that framework",
        )


def _state_files(folder: Path) -> list[Path]:
    """Returns the states of DeepSpeed's optimizer, by rank; those of the model where there are no others."""
    for pattern in ("*zero_pp_rank_*_optim_states.pt", "*mp_rank_*_model_states.pt"):
        found = sorted(folder.glob(pattern), key=lambda path: by_number(path.name))
        if found:
            return found
    return []


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _latest(folder: Path) -> str | None:
    """Returns the folder that DeepSpeed's file ``latest`` names, or None."""
    path = folder / "latest"
    if not path.is_file() or path.stat().st_size > _MAX_TAG_BYTES:
        return None
    check_readable(path, folder)
    name = path.read_text(encoding="utf-8", errors="replace").strip()
    return name if is_plain_file_name(name) else None


def _note(folder: Path, place: Path) -> tuple[str, ...]:
    if place == folder:
        return ()
    return (f"the folder {place.relative_to(folder).as_posix()} was read",)
