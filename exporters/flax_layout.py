"""A PyTorch model's weights as Flax spells them, and the way back inside a JAX program.

Where the architecture has a file in ``convert/archs`` its Flax layout is that of transformers 4.57.6; the others get the
regular one, which follows from the types of the modules alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.convert.config import Config
from equipoise.convert.errors import EquipoiseError
from equipoise.convert.expand import Expansion, expand
from equipoise.convert.layouts import layout_module
from equipoise.convert.layouts.flax import LEAVES
from equipoise.convert.ops import (
    AddAxis,
    Concat,
    DropAxis,
    Op,
    Permute,
    Split,
    Stack,
    Unstack,
)
from equipoise.convert.rule import Rule
from equipoise.convert.spec import load_spec

PARAMS, STATISTICS = "params", "batch_stats"
"""Flax's collections, where there is more than one."""
_OF_TYPES = {
    "Linear": "linear",
    "NonDynamicallyQuantizableLinear": "linear",
    "Conv1D": "hf_conv1d",
    "Conv1d": "conv1d",
    "Conv2d": "conv2d",
    "Conv3d": "conv3d",
    "ConvTranspose2d": "conv_transpose2d",
    "Embedding": "embedding",
    "LayerNorm": "norm",
    "GroupNorm": "norm",
    "BatchNorm1d": "batch_norm",
    "BatchNorm2d": "batch_norm",
    "BatchNorm3d": "batch_norm",
}
"""PyTorch's modules and the one of transformers -> the kind of module that an architecture file would call them."""


@dataclass(frozen=True)
class FlaxLayout:
    """Rules from PyTorch's names to paths in Flax's tree (``encoder/layer/0/kernel``).

    Attributes:
        rules: For every weight.
        origin: ``transformers 4.57.6`` or ``regular``.
    """

    rules: tuple[Rule, ...]
    origin: str

    def tree(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Nested dicts of arrays, from arrays by PyTorch's names."""
        return nested(_applied(self.rules, weights))

    def weights(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by PyTorch's names, from the tree; in a JAX program too."""
        return _applied([rule.inverse for rule in self.rules], flat(tree))


def flax_layout(model: Any, names: Iterable[str]) -> FlaxLayout:
    """The layout of a model of transformers.

    Args:
        model: The model.
        names: Names of the weights that are to be in it, as its ``state_dict`` has them.
    """
    wanted = set(names)
    rules = _of_spec(model, wanted)
    if rules is not None:
        return FlaxLayout(rules, "transformers 4.57.6")
    return FlaxLayout(_regular(model, wanted), "regular")


def _of_spec(model: Any, wanted: set[str]) -> tuple[Rule, ...] | None:
    """The rules of the architecture's file; None where there is none for this class, or it has other names."""
    spec = load_spec(model.config.model_type)
    cls = spec.class_named(type(model).__name__) if spec else None
    if spec is None or cls is None or "flax" not in cls.names:
        return None
    try:
        expansion = expand(spec, cls, Config(model.config.to_dict()))
        view = layout_module("flax").view(expansion)
    except EquipoiseError:
        return None
    known = _module_names(expansion, wanted)
    rules = []
    for rule in view.rules:
        if not all(name in known and name not in view.shared for name in rule.sources):
            continue
        rules.append(Rule(tuple(known[name] for name in rule.sources), rule.targets, rule.ops))
    covered = {name for rule in rules for name in rule.sources}
    return tuple(rules) if covered == wanted else None


def _module_names(expansion: Expansion, wanted: set[str]) -> dict[str, str]:
    """Names of the spec -> those of the model: the base class's lack the prefix."""
    prefix = f"{expansion.spec.prefix}."
    found = {}
    for name in expansion.parameters:
        short = name.removeprefix(prefix) if expansion.cls.base else name
        if short in wanted:
            found[name] = short
    return found


def _regular(model: Any, wanted: set[str]) -> tuple[Rule, ...]:
    """Each weight under its own path; the type of its module says what Flax calls it and how its axes lie."""
    modules = dict(model.named_modules())
    kinds = {path: _kind(module) for path, module in modules.items()}
    collections = "batch_norm" in kinds.values()
    rules = []
    for name in sorted(wanted):
        path, _, leaf = name.rpartition(".")
        known = LEAVES.get((kinds.get(path) or "", leaf))
        last, ops = (known.name, known.ops) if known else (leaf, ())
        target = "/".join(part for part in (path.replace(".", "/"), last) if part)
        if collections:
            place = STATISTICS if leaf in ("running_mean", "running_var") else PARAMS
            target = f"{place}/{target}"
        rules.append(Rule((name,), (target,), ops))
    return tuple(rules)


def _kind(module: Any) -> str | None:
    name = type(module).__name__
    if name.endswith("RMSNorm"):
        return "rms_norm"
    return _OF_TYPES.get(name) or ("norm" if name.endswith("LayerNorm") else None)


def _applied(rules: Iterable[Rule], arrays: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in rules:
        made = tuple(arrays[name] for name in rule.sources)
        for op in rule.ops:
            made = _traced(op, made)
        found.update(zip(rule.targets, made, strict=True))
    return found


def _traced(op: Op, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """An operation on values of a JAX program; those of ``convert`` are numpy's."""
    from jax import numpy as jnp

    match op:
        case Permute(axes):
            return tuple(array.transpose(axes) for array in arrays)
        case AddAxis(axis):
            return tuple(jnp.expand_dims(array, axis) for array in arrays)
        case DropAxis(axis):
            return tuple(jnp.squeeze(array, axis) for array in arrays)
        case Concat(axis, _):
            return (jnp.concatenate(arrays, axis),)
        case Split(axis, sizes):
            ends = [sum(sizes[: index + 1]) for index in range(len(sizes) - 1)]
            return tuple(jnp.split(arrays[0], ends, axis))
        case Stack(axis, _):
            return (jnp.stack(arrays, axis),)
        case Unstack(axis, count):
            return tuple(jnp.take(arrays[0], index, axis) for index in range(count))
    raise NotImplementedError(type(op).__name__)


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """A tree from paths.

    >>> nested({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, Any] = {}
    for path, value in arrays.items():
        *parents, last = path.split("/")
        here = tree
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    return tree


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Paths from a tree.

    >>> flat({"a": {"b": 1, "c": 2}})
    {'a/b': 1, 'a/c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        here = f"{path}/{name}" if path else name
        found.update(flat(value, here) if isinstance(value, Mapping) else {here: value})
    return found
