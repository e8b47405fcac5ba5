"""Checkpoints of DeepSpeed ZeRO, stages 1 to 3: the fp32 parameters in the states of the optimizers, put together.

The file is the first ``*_optim_states.pt``; all others, and ``*_model_states.pt``, lie beside it. Names and values are those that
DeepSpeed's own ``zero_to_fp32.py`` gives: trained parameters from the optimizers' flat vectors, frozen ones and buffers from the
states of the model, buffers of 16 bits widened. Parameters that it leaves out at stage 1, the frozen ones, are read too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from equipoise.convert.containers._distributed.flat_vectors import (
    Piece,
    cut_pieces,
    stream_pieces,
    take_elements,
)
from equipoise.convert.containers._distributed.zero_states import (
    StateFile,
    ZeroStates,
    as_map,
    as_shapes,
    read_zero_states,
)
from equipoise.convert.containers._pytorch.allowed_globals import StridedView
from equipoise.convert.containers._shared.checks import check_shape
from equipoise.convert.containers.base import Container
from equipoise.convert.core.arrays import Array, Shape
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import DTYPES, TensorRef, is_floating
from equipoise.convert.files.file_names import by_number

_OPTIMIZER_ENDING = "_optim_states.pt"
SUFFIXES = (_OPTIMIZER_ENDING,)
_MODEL_ENDING = "_model_states.pt"
_ZIP_START = b"PK\3\4"
_LEFT_OUT = {
    "optimizer_state_dict.base_optimizer_state": "state of the optimizer",
    "module": "copies of the parameters in the dtype of the training",
}


def sniff(path: Path) -> bool:
    """Whether a file is a zip archive with the name of a state of DeepSpeed's optimizer."""
    with open(path, "rb") as file:
        head = file.read(len(_ZIP_START))
    return head == _ZIP_START and path.name.endswith(_OPTIMIZER_ENDING)


def read(path: Path) -> Container:
    """Reads the headers of all files of the checkpoint that a file belongs to.

    Raises:
        CheckpointError: Files of processes are missing.
        UnsafePickleError: A pickle names a class that is not one of DeepSpeed's.
        ContainerError: A file is corrupt, or flat vectors and shapes do not belong together.
    """
    if not sniff(path):
        raise ContainerError(
            "not a state of DeepSpeed's optimizer",
            file=path,
            expected=f"a zip archive with a name that ends with {_OPTIMIZER_ENDING}",
        )
    optimizers, models = (
        sorted(path.parent.glob(f"*{ending}"), key=lambda one: by_number(one.name))
        for ending in (_OPTIMIZER_ENDING, _MODEL_ENDING)
    )
    states = read_zero_states(optimizers, models)
    tensors = {**_buffers(states), **_frozen(states), **_trained(states)}
    tensors |= {name: ref for name, ref in _module_tensors(states) if name not in tensors}
    for alias, name in _shared(states.models[0]).items():
        if name in tensors:
            tensors[alias] = replace(tensors[name], name=alias)
    variant = {"variant": f"stage {states.stage}"}
    oddity = (
        f"fp32 parameters of {len(optimizers)} processes of DeepSpeed ZeRO stage {states.stage}"
    )
    files = tuple(one for one in (*optimizers, *models) if one != path)
    return Container("deepspeed_zero", path, tensors, variant, _LEFT_OUT, (oddity,), files=files)


def _assembled(name: str, shape: Shape, pieces: Sequence[Piece], path: Path) -> TensorRef:
    """Returns the reference of a tensor that lies in pieces."""
    dtypes = {piece.vector.dtype for piece in pieces} or {DTYPES["float32"]}
    if len(dtypes) > 1:
        raise ContainerError(
            "processes stored a tensor in different dtypes",
            file=path,
            tensor=name,
            found=", ".join(sorted(dtype.name for dtype in dtypes)),
        )
    (dtype,) = dtypes
    shape = check_shape(shape, dtype, file=path, tensor=name)
    found = sum(piece.stop - piece.start for piece in pieces)
    if found != math.prod(shape):
        raise ContainerError(
            "the processes do not hold the whole tensor",
            file=path,
            tensor=name,
            expected=f"{math.prod(shape)} elements",
            found=f"{found}",
        )
    file = pieces[0].vector.file if pieces else path
    return TensorRef(
        name, dtype, shape, file, stream=lambda: stream_pieces(pieces), identity=(path, name)
    )


def _trained(states: ZeroStates) -> dict[str, TensorRef]:
    model = states.models[0]
    shapes = model.values.get("param_shapes")
    groups = [
        as_shapes(one, model.path) for one in (shapes if isinstance(shapes, list) else [shapes])
    ]
    if states.stage == 3:
        return _trained_in_shares(states, {k: v for one in groups for k, v in one.items()})
    return _trained_in_vectors(states, groups)


def _trained_in_vectors(
    states: ZeroStates, groups: Sequence[Mapping[str, Shape]]
) -> dict[str, TensorRef]:
    """Returns the parameters of stages 1 and 2: the vectors of a group, put end to end, hold one parameter after the other."""
    path = states.models[0].path
    ranks = len(states.flat_groups)
    counts = {len(one) for one in states.flat_groups} | {len(groups)}
    if len(counts) > 1 or (states.paddings is not None and len(states.paddings) != len(groups)):
        raise ContainerError(
            "processes have different numbers of parameter groups", file=path, found=sorted(counts)
        )
    found: dict[str, TensorRef] = {}
    for index, shapes in enumerate(groups):
        vectors = [one[index] for one in states.flat_groups]
        paddings = [0] * len(shapes) if states.paddings is None else states.paddings[index]
        if len(paddings) != len(shapes):
            raise ContainerError("the paddings of parameters do not fit their number", file=path)
        start = 0
        for (name, shape), padding in zip(shapes.items(), paddings, strict=True):
            stop = start + math.prod(shape)
            found[name] = _assembled(name, shape, cut_pieces(vectors, start, stop), path)
            start = stop + padding
        _check_consumed(start, sum(one.size for one in vectors), 2 * ranks, path)
    return found


def _trained_in_shares(states: ZeroStates, shapes: Mapping[str, Shape]) -> dict[str, TensorRef]:
    """Returns the parameters of stage 3: each process holds an equal share of every parameter, the last ones padded."""
    path = states.models[0].path
    ranks = len(states.flat_groups)
    found: dict[str, TensorRef] = {}
    start = 0
    for name, shape in shapes.items():
        count = math.prod(shape)
        stop = start - (-count // ranks)
        pieces = [one for flat in states.flat_groups for one in cut_pieces(flat, start, stop)]
        found[name] = _assembled(name, shape, take_elements(pieces, count), path)
        start = stop
    for flat in states.flat_groups:
        _check_consumed(start, sum(one.size for one in flat), 1, path)
    return found


def _check_consumed(wanted: int, stored: int, alignment: int, path: Path) -> None:
    """Checks that parameters take up the vectors that hold them, up to padding at the end."""
    if -(-wanted // alignment) != -(-stored // alignment):
        raise ContainerError(
            "the shapes of parameters do not take up the vectors that hold them",
            file=path,
            expected=f"{wanted} elements",
            found=f"{stored}",
            hint="the files are of different trainings, or of a version of DeepSpeed that is not known",
        )


def _frozen(states: ZeroStates) -> dict[str, TensorRef]:
    model = states.models[0]
    if not model.values.get("frozen_param_shapes"):
        return {}
    found: dict[str, TensorRef] = {}
    fragments = [one.map("frozen_param_fragments") for one in states.models]
    for name, shape in as_shapes(model.values["frozen_param_shapes"], model.path).items():
        refs = [
            file.tensor(name, one.get(name))
            for file, one in zip(states.models, fragments, strict=True)
        ]
        if states.stage == 3:
            pieces = [Piece(ref, 0, ref.size) for ref in refs]
            found[name] = _assembled(
                name, shape, take_elements(pieces, math.prod(shape)), model.path
            )
        else:
            found[name] = refs[0]
    return found


def _buffers(states: ZeroStates) -> dict[str, TensorRef]:
    model = states.models[0]
    names = model.values.get("buffer_names")
    module = model.map("module")
    if not isinstance(names, (list, tuple)):
        raise ContainerError(
            "not a state of a model of DeepSpeed: no buffer_names", file=model.path
        )
    known = {name for name in names if isinstance(name, str)}
    return {
        name: _widened(model.tensor(name, value))
        for name, value in module.items()
        if isinstance(name, str) and name in known
    }


def _widened(ref: TensorRef) -> TensorRef:
    """Returns a tensor in float32 if it is a floating-point one."""
    wide = DTYPES["float32"]
    if not is_floating(ref.dtype) or ref.dtype == wide:
        return ref

    def load() -> Array:
        return np.asarray(ref.read().astype(wide))

    return TensorRef(ref.name, wide, ref.shape, ref.file, load=load)


def _module_tensors(states: ZeroStates) -> Iterator[tuple[str, TensorRef]]:
    """Yields what the model's state alone has: frozen parameters at stage 1. A tensor without elements stands for a partitioned one."""
    model = states.models[0]
    for name, value in model.map("module").items():
        if isinstance(name, str) and isinstance(value, StridedView) and 0 not in value.shape:
            yield name, model.tensor(name, value)


def _shared(model: StateFile) -> dict[str, str]:
    pairs = as_map(model.values.get("shared_params") or {}, "shared_params", model.path)
    return {a: b for a, b in pairs.items() if isinstance(a, str) and isinstance(b, str)}
