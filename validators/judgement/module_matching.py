"""Matches the modules of another framework with PyTorch's: by the weights below them, or by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equipoise.convert.api import plan_conversion
from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.core.types import Array, Arrays, CapturedModule


@dataclass(frozen=True)
class ModulePair:
    """One module in PyTorch and in a backend."""

    reference: CapturedModule
    found: CapturedModule


def map_weight_names(pytorch: Path, backend: str) -> dict[str, tuple[str, ...]]:
    """Returns the names of a framework's weights, without ``:0`` -> the PyTorch weights that they are made of.

    Empty if the architecture is not known; names are then compared by their spelling.
    """
    try:
        plan = plan_conversion(pytorch, to=backend)
    except EquipoiseError:
        return {}
    return {
        _without_index(header.name): tuple(step.sources)
        for step in plan.steps
        for header in step.targets
    }


def match_modules(
    reference: Sequence[CapturedModule],
    found: Sequence[CapturedModule],
    weights: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
) -> list[ModulePair]:
    """Returns pairs of modules, in the order in which PyTorch's ended.

    Args:
        reference: PyTorch's modules.
        found: The backend's modules.
        weights: Names of PyTorch's weights.
        names: The result of :func:`map_weight_names`.
    """
    pairs = {
        **_match_by_path(reference, found),
        **_match_by_weights(reference, found, weights, names),
    }
    return [ModulePair(module, pairs[module.path]) for module in reference if module.path in pairs]


def _match_by_path(
    reference: Sequence[CapturedModule], found: Sequence[CapturedModule]
) -> dict[str, CapturedModule]:
    """Matches by path: programs keep PyTorch's paths, possibly below the wrapper that was exported.

    A graph holds the values of the last call of a module, which has a number in PyTorch's path: ``dropout#2``.
    """
    modules = [module for module in found if module.weights is None]
    known = {module.path for module in reference}
    wrapped = sum(module.path.partition(".")[2] in known for module in modules)
    direct = sum(module.path in known for module in modules)

    last_call = {module.path.partition("#")[0]: module.path for module in reference}
    is_numbered = any("#" in module.path for module in modules)

    def pytorch_path(path: str) -> str:
        path = path if direct >= wrapped else path.partition(".")[2]
        return path if is_numbered else last_call.get(path, path)

    return {pytorch_path(module.path): module for module in modules}


def _match_by_weights(
    reference: Sequence[CapturedModule],
    found: Sequence[CapturedModule],
    weights: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
) -> dict[str, CapturedModule]:
    """Matches modules above the same set of weights; among several, the order in which they ended decides.

    A module that is called several times (ALBERT's layer) is matched by its first call on both sides.
    """
    theirs: dict[frozenset[str], list[CapturedModule]] = {}
    first_calls = {module.path: module for module in reversed(found)}
    for module in found:
        if module.weights and module is first_calls[module.path]:
            below = frozenset(one for name in module.weights for one in _pytorch_names(name, names))
            theirs.setdefault(below, []).append(module)
    ours: dict[frozenset[str], list[CapturedModule]] = {}
    for module in reference:
        path = module.path.partition("#")[0]
        below = frozenset(name for name in weights if name.startswith(f"{path}.") or not path)
        if below and not module.path.partition("#")[1]:
            ours.setdefault(below, []).append(module)
    pairs = {}
    for below, modules in ours.items():
        pairs.update(_pair_in_order(modules, theirs.get(below, [])))
    return pairs


def _pair_in_order(
    ours: Sequence[CapturedModule], theirs: Sequence[CapturedModule]
) -> dict[str, CapturedModule]:
    """Pairs all in order if both sides have as many; else innermost and outermost with those whose values are nearest.

    A framework may have modules around a layer that PyTorch has not, such as the loop over a layer that is called twice.
    """
    if not theirs:
        return {}
    if len(ours) == len(theirs):
        pairs = dict(zip((module.path for module in ours), theirs, strict=True))
    else:
        pairs = {
            ours[-1].path: min(reversed(theirs), key=lambda one: _distance(ours[-1], one)),
            ours[0].path: min(theirs, key=lambda one: _distance(ours[0], one)),
        }
    by_path = {module.path: module for module in ours}
    return {
        path: module
        for path, module in pairs.items()
        if matching_outputs(by_path[path].outputs, module.outputs) is not None
    }


def _distance(ours: CapturedModule, theirs: CapturedModule) -> float:
    """Returns the largest difference of the outputs of two modules; infinity if they do not match."""
    pair = matching_outputs(ours.outputs, theirs.outputs)
    if pair is None:
        return float("inf")
    with np.errstate(invalid="ignore"):
        return float(np.nan_to_num(np.abs(pair[0] - pair[1]), nan=np.inf).max(initial=0.0))


def matching_outputs(reference: Arrays, found: Arrays) -> tuple[Array, Array] | None:
    """Returns the first outputs of a module on both sides in the same axis order; None if they do not match."""
    if not reference or not found:
        return None
    name = next((name for name in reference if name in found), None)
    ours = reference[name] if name else next(iter(reference.values()))
    theirs = found[name] if name else next(iter(found.values()))
    same_axes = match_axes(ours, theirs)
    if same_axes is not None:
        return ours, same_axes
    if ours.ndim and ours.shape[1:] == theirs.shape[1:] and 1 in (len(ours), len(theirs)):
        # One row for the whole batch, as position embeddings have it.
        rows = np.broadcast_arrays(ours, theirs)
        return rows[0], rows[1]
    return None


def match_axes(ours: Array, theirs: Array) -> Array | None:
    """Returns an array of a backend with PyTorch's axes; None if the shapes do not tell how.

    TensorFlow and Flax keep channels last. Programs may have the last axis split (heads of attention), or all others
    merged (rows of a matrix product).

    >>> match_axes(np.zeros((2, 3, 8)), np.zeros((2, 3, 4, 2))).shape
    (2, 3, 8)
    """
    if ours.shape == theirs.shape:
        return theirs
    if ours.ndim > 2 and ours.ndim == theirs.ndim:
        channels_first = theirs.transpose(0, theirs.ndim - 1, *range(1, theirs.ndim - 1))
        if channels_first.shape == ours.shape:
            return channels_first
    leading = ours.shape[:-1]
    is_split = theirs.ndim > ours.ndim > 1 and theirs.shape[: len(leading)] == leading
    is_merged = theirs.ndim == 2 < ours.ndim and theirs.shape[-1] == ours.shape[-1]
    if ours.size == theirs.size and (is_split or is_merged):
        return theirs.reshape(ours.shape)
    return None


def _pytorch_names(name: str, names: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the PyTorch weights of a framework's weight, by its spelling if there is no mapping."""
    bare = _without_index(name)
    if names:
        return names.get(bare, (bare,))
    # TensorFlow's names begin with the model's own: tf_sam_model/vision_encoder/...
    root, _, rest = bare.partition("/")
    dotted = (rest if root.startswith("tf_") else bare).replace("_._", ".").replace("/", ".")
    module, _, leaf = dotted.rpartition(".")
    leaves = {"kernel": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}
    spelling = leaves.get(leaf, "weight" if leaf in ("embedding", "embeddings") else leaf)
    return (f"{module}.{spelling}",)


def _without_index(name: str) -> str:
    """Removes the output index of a TensorFlow variable: ``kernel:0`` -> ``kernel``."""
    return name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
