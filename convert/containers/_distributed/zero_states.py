"""Opens the files of a DeepSpeed ZeRO checkpoint: the optimizer's state of every process, and the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.containers._pytorch.allowed_globals import (
    StridedView,
    UnsupportedTensor,
    check_count,
)
from equipoise.convert.containers._pytorch.inert_globals import InertGlobals
from equipoise.convert.containers._pytorch.pickle_values import Global, Opaque
from equipoise.convert.containers._pytorch.tensor_tree import expanded_bytes_limit, tensor_ref
from equipoise.convert.containers._pytorch.zip_storages import ArchiveContent, load_archive
from equipoise.convert.containers._shared.checks import MAX_AXES, check_name
from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.containers._shared.zip_reader import read_zip
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import CheckpointError, ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.files.containment import check_readable

_GLOBALS = InertGlobals(
    ("deepspeed.", "argparse."),
    {
        "deepspeed.runtime.zero.config.ZeroStageEnum": Global(
            "ZeroStageEnum", lambda arguments: arguments[0] if arguments else Opaque("stage")
        )
    },
)
_FLAT_GROUPS = {
    1: "single_partition_of_fp32_groups",
    2: "single_partition_of_fp32_groups",
    3: "fp32_flat_groups",
}
_EXPERT_KEYS = ("ds_autoep_layers", "autoep_layers")

Values = Mapping[object, object]


@dataclass(frozen=True)
class StateFile:
    """A file of ``torch.save`` whose content is a map.

    Attributes:
        path: The file.
        values: The map; tensors are views of storages.
        content: What the archive holds.
    """

    path: Path
    values: Values
    content: ArchiveContent

    def map(self, key: str) -> Values:
        """Returns a map below a key.

        Raises:
            ContainerError: There is none.
        """
        return as_map(self.values.get(key), key, self.path)

    def tensor(self, name: str, value: object) -> TensorRef:
        """Returns the reference of a tensor in this file.

        Raises:
            ContainerError: The value is no tensor, or reaches beyond its storage.
        """
        if isinstance(value, UnsupportedTensor):
            raise UnsupportedDtypeError(
                f"{value.what} cannot be converted", file=self.path, tensor=name
            )
        if not isinstance(value, StridedView):
            raise ContainerError(
                "not a tensor", file=self.path, tensor=name, found=type(value).__name__
            )
        with add_file_to_errors(self.path):
            region = self.content.storages.find_storage(value.storage)
            return tensor_ref(name, value, self.path, region, expanded_bytes_limit(self.path))


@dataclass(frozen=True)
class ZeroStates:
    """A checkpoint of ZeRO.

    Attributes:
        stage: 1, 2 or 3.
        flat_groups: Per process, the flat fp32 vectors of its parameter groups.
        models: The files of the model: one, or one a process at stage 3.
        paddings: Per group, the elements after each parameter; None if there are none.
    """

    stage: int
    flat_groups: Sequence[Sequence[TensorRef]]
    models: Sequence[StateFile]
    paddings: Sequence[Sequence[int]] | None


def as_map(value: object, key: str, path: Path) -> Values:
    """Returns a value if it is a map.

    Raises:
        ContainerError: It is none.
    """
    if not isinstance(value, dict):
        raise ContainerError(
            f"not a state of DeepSpeed: {key!r} is not a map",
            file=path,
            found="nothing" if value is None else type(value).__name__,
        )
    return value


def as_shapes(value: object, path: Path) -> dict[str, Shape]:
    """Returns the shapes of parameters by name, in the order in which they are stored.

    Raises:
        ContainerError: The value is no such map.
    """
    found: dict[str, Shape] = {}
    for key, shape in as_map(value, "param_shapes", path).items():
        if (
            not isinstance(key, str)
            or not isinstance(shape, (tuple, list))
            or len(shape) > MAX_AXES
        ):
            raise ContainerError("the shape of a parameter is not understood", file=path)
        sizes = tuple(check_count(size, "shape") for size in shape)
        found[check_name(key, path)] = sizes
    return found


def read_zero_states(optimizers: Sequence[Path], models: Sequence[Path]) -> ZeroStates:
    """Opens the files of a checkpoint.

    Args:
        optimizers: The files of the optimizer, by rank.
        models: The files of the model, by rank.

    Raises:
        CheckpointError: Files are missing.
        ContainerError: A file is corrupt, or not one of ZeRO.
        UnsafePickleError: A pickle names a class that is not one of DeepSpeed's.
    """
    files = [_open(path) for path in optimizers]
    first = files[0].map("optimizer_state_dict")
    stage = _stage(first, files[0].path)
    _check_ranks(first, files)
    groups = [_flat_groups(file, stage) for file in files]
    states = [_open(path) for path in (models if stage == 3 else models[:1])]
    if not states or (stage == 3 and len(states) != len(files)):
        raise CheckpointError(
            "states of the model are missing",
            file=files[0].path.parent,
            expected=f"{len(files) if stage == 3 else 1} *_model_states.pt",
            found=f"{len(states)}",
            hint="copy the files of all processes into one folder",
        )
    for one in states:
        _check_experts(one)
    return ZeroStates(stage, groups, states, _paddings(first, files[0].path))


def _open(path: Path) -> StateFile:
    check_readable(path, path.parent)
    with add_file_to_errors(path):
        content = load_archive(read_zip(path), _GLOBALS)
        return StateFile(path, as_map(content.top, "the whole", path), content)


def _stage(state: Values, path: Path) -> int:
    """Returns the stage; DeepSpeed's ``BF16_Optimizer`` does not say it, and stores what stage 1 does."""
    stage = state.get("zero_stage", 1 if _FLAT_GROUPS[1] in state else None)
    if type(stage) is not int or stage not in _FLAT_GROUPS:
        raise ContainerError(
            "not the state of a ZeRO optimizer",
            file=path,
            expected="zero_stage 1, 2 or 3",
            found="none" if stage is None else str(stage)[:40],
        )
    return stage


def _check_ranks(state: Values, files: Sequence[StateFile]) -> None:
    count = state.get("partition_count")
    counts = count if isinstance(count, (list, tuple)) else [count]
    ranks = max((one for one in counts if type(one) is int), default=0)
    if ranks != len(files):
        raise CheckpointError(
            "states of some processes are missing, or of an earlier training are here too",
            file=files[0].path.parent,
            expected=f"{ranks} *_optim_states.pt",
            found=f"{len(files)}",
            hint="copy the files of all processes into one folder; states of tensor or pipeline parallelism are not read",
        )


def _flat_groups(file: StateFile, stage: int) -> list[TensorRef]:
    groups = file.map("optimizer_state_dict").get(_FLAT_GROUPS[stage])
    if not isinstance(groups, (list, tuple)):
        raise ContainerError(
            "the state of the optimizer has no fp32 parameters",
            file=file.path,
            expected=_FLAT_GROUPS[stage],
        )
    refs = [file.tensor(f"{_FLAT_GROUPS[stage]}.{i}", one) for i, one in enumerate(groups)]
    for ref in refs:
        if len(ref.shape) != 1:
            raise ContainerError(
                "a group of parameters is not flat",
                file=file.path,
                tensor=ref.name,
                expected="one axis",
                found=str(list(ref.shape)),
            )
    return refs


def _paddings(state: Values, path: Path) -> list[list[int]] | None:
    paddings = state.get("param_alignment_paddings")
    if paddings is None:
        return None
    if not isinstance(paddings, (list, tuple)) or not all(
        isinstance(one, (list, tuple)) for one in paddings
    ):
        raise ContainerError("the paddings of parameters are not understood", file=path)
    return [[check_count(size, "padding") for size in one] for one in paddings]


def _check_experts(model: StateFile) -> None:
    if any(model.values.get(key) for key in _EXPERT_KEYS):
        raise CheckpointError(
            "a checkpoint with experts that are distributed over processes is not read",
            file=model.path,
            hint="make a universal checkpoint with DeepSpeed's ds_to_universal.py and load it there",
        )
