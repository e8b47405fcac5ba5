"""Which module of another framework is which of PyTorch's: by the weights beneath it, or by its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equipoise.convert.api import plan_conversion
from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.remote import Module
from equipoise.validators.runner import Array, Arrays


@dataclass(frozen=True)
class Pair:
    """One module, as PyTorch has it and as the backend has it."""

    reference: Module
    found: Module


def weight_names(pytorch: Path, backend: str) -> dict[str, tuple[str, ...]]:
    """The PyTorch weights that a framework's weight is made of, by the framework's name without ``:0``.

    Empty where the architecture is not known; then names are compared as they are spelt.
    """
    try:
        plan = plan_conversion(pytorch, to=backend)
    except EquipoiseError:
        return {}
    return {
        _bare(header.name): tuple(step.sources) for step in plan.steps for header in step.targets
    }


def align(
    reference: Sequence[Module],
    found: Sequence[Module],
    weights: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
) -> list[Pair]:
    """Pairs of modules, in the order in which PyTorch's ended.

    Args:
        reference: PyTorch's modules.
        found: The backend's.
        weights: PyTorch's weights by name.
        names: See :func:`weight_names`.
    """
    by_path = _by_path(reference, found)
    by_weights = _by_weights(reference, found, weights, names)
    paired = {**by_path, **by_weights}
    return [Pair(module, paired[module.path]) for module in reference if module.path in paired]


def _by_path(reference: Sequence[Module], found: Sequence[Module]) -> dict[str, Module]:
    """Programs keep PyTorch's paths, below the wrapper that was exported."""
    plain = [module for module in found if module.weights is None]
    known = {module.path for module in reference}
    wrapped = sum(module.path.partition(".")[2] in known for module in plain)
    direct = sum(module.path in known for module in plain)

    def spelt(path: str) -> str:
        return path if direct >= wrapped else path.partition(".")[2]

    return {spelt(module.path): module for module in plain}


def _by_weights(
    reference: Sequence[Module],
    found: Sequence[Module],
    weights: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
) -> dict[str, Module]:
    """Modules over the same set of weights are the same; of several, the order of their ends decides."""
    theirs: dict[frozenset[str], list[Module]] = {}
    for module in found:
        if module.weights:
            beneath = frozenset(one for name in module.weights for one in _pytorch(name, names))
            theirs.setdefault(beneath, []).append(module)
    ours: dict[frozenset[str], list[Module]] = {}
    for module in reference:
        path = module.path.partition("#")[0]
        beneath = frozenset(name for name in weights if name.startswith(f"{path}.") or not path)
        if beneath and not module.path.partition("#")[1]:
            ours.setdefault(beneath, []).append(module)
    pairs = {}
    for beneath, modules in ours.items():
        pairs.update(_in_order(modules, theirs.get(beneath, [])))
    return pairs


def _in_order(ours: Sequence[Module], theirs: Sequence[Module]) -> dict[str, Module]:
    """Innermost with innermost, outermost with outermost; all, where there are as many on both sides."""
    if not theirs:
        return {}
    if len(ours) == len(theirs):
        pairs = dict(zip((module.path for module in ours), theirs, strict=True))
    else:
        pairs = {ours[-1].path: theirs[-1], ours[0].path: theirs[0]}
    shapes = {module.path: module for module in ours}
    return {
        path: module
        for path, module in pairs.items()
        if comparable(shapes[path].outputs, module.outputs) is not None
    }


def comparable(reference: Arrays, found: Arrays) -> tuple[Array, Array] | None:
    """The first outputs of a module on both sides in one order of axes; None when they do not compare."""
    if not reference or not found:
        return None
    name = next((name for name in reference if name in found), None)
    ours = reference[name] if name else next(iter(reference.values()))
    theirs = found[name] if name else next(iter(found.values()))
    if ours.shape == theirs.shape:
        return ours, theirs
    if ours.shape[1:] == theirs.shape[1:] and 1 in (len(ours), len(theirs)):
        # One row for the whole batch is the same in every row.
        rows = np.broadcast_arrays(ours, theirs)
        return rows[0], rows[1]
    # TensorFlow and Flax keep channels last.
    last = (0, *range(2, ours.ndim), 1) if ours.ndim > 2 else ()
    if last and tuple(ours.shape[axis] for axis in last) == theirs.shape:
        return ours.transpose(last), theirs
    return None


def _pytorch(name: str, names: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    bare = _bare(name)
    if names:
        return names.get(bare, (bare,))
    # TensorFlow's names begin with the model's own: tf_sam_model/vision_encoder/...
    root, _, rest = bare.partition("/")
    spelt = (rest if root.startswith("tf_") else bare).replace("_._", ".").replace("/", ".")
    module, _, leaf = spelt.rpartition(".")
    leaves = {"kernel": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}
    plain = leaves.get(leaf, "weight" if leaf in ("embedding", "embeddings") else leaf)
    return (f"{module}.{plain}",)


def _bare(name: str) -> str:
    return name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
