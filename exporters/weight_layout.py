"""A PyTorch model's weights as Flax or TensorFlow spell them, and the way back inside a JAX program.

Where the architecture has a file in ``convert/archs`` the layout is that of transformers 4.57.6; the others get the
regular one, which follows from the types of the modules alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.ops import (
    AddAxis,
    Concat,
    DropAxis,
    Op,
    Permute,
    Split,
    Stack,
    Unstack,
)
from equipoise.convert.core.rules import Rule
from equipoise.convert.layouts import layout_module

STATISTICS = ("running_mean", "running_var")
"""What Flax keeps in a collection of its own."""
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
class WeightLayout:
    """Rules from PyTorch's names to those of the layout (``encoder/layer/0/kernel``).

    Attributes:
        rules: For every weight that the layout keeps: tables that follow from the config it may not.
        origin: ``transformers 4.57.6`` or ``regular``.
    """

    rules: tuple[Rule, ...]
    origin: str

    def from_pytorch(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by the layout's names, from arrays by PyTorch's names."""
        return _applied(self.rules, arrays)

    def to_pytorch(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by PyTorch's names, from arrays by the layout's names; in a JAX program too."""
        return _applied([rule.inverse for rule in self.rules], arrays)


def layout_of(model: Any, names: Iterable[str], layout: str) -> WeightLayout:
    """How the weights of a model of transformers are called and lie in another layout.

    Args:
        model: The model.
        names: Names of the weights that are to be in it, as its ``state_dict`` has them.
        layout: ``flax`` or ``tensorflow``.
    """
    wanted = set(names)
    rules = _of_spec(model, wanted, layout)
    if rules is not None:
        return WeightLayout(rules, "transformers 4.57.6")
    return WeightLayout(_regular(model, wanted, layout), "regular")


def _of_spec(model: Any, wanted: set[str], layout: str) -> tuple[Rule, ...] | None:
    """The rules of the architecture's file; None where there is none for this class, or it has other names."""
    spec = load_spec(model.config.model_type)
    cls = spec.class_by_name(type(model).__name__) if spec else None
    if spec is None or cls is None or layout not in cls.names:
        return None
    try:
        expansion = expand(spec, cls, Config(model.config.to_dict()))
        view = layout_module(layout).view(expansion)
    except EquipoiseError:
        return None
    known = _module_names(expansion, _file_names(model, wanted))
    rules = tuple(
        Rule(tuple(known[name] for name in rule.sources), rule.targets, rule.ops)
        for rule in view.rules
        if all(name in known and name not in view.shared for name in rule.sources)
    )
    covered = {name for rule in rules for name in rule.sources}
    computed = {name for one, name in known.items() if expansion.parameters[one].computed}
    return rules if covered | computed == wanted else None


def _file_names(model: Any, wanted: set[str]) -> dict[str, str]:
    """What files call the weights -> what the model calls them: transformers 5 has renamed modules, but not in files."""
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    own = {name: torch.empty_like(one, device="meta") for name, one in model.state_dict().items()}
    names = {id(tensor): name for name, tensor in own.items()}
    saved = revert_weight_conversion(model, dict(own))
    found = {file: names[id(tensor)] for file, tensor in saved.items() if id(tensor) in names}
    return {file: name for file, name in found.items() if name in wanted}


def _module_names(expansion: Expansion, files: Mapping[str, str]) -> dict[str, str]:
    """Names of the spec -> those of the model, by what files call them; some names are spelled in several ways."""
    view = layout_module("pytorch").view(expansion)
    stored = {view.aliases.get(file, file): name for file, name in files.items()}
    return {
        rule.sources[0]: stored[rule.targets[0]]
        for rule in view.rules
        if len(rule.sources) == len(rule.targets) == 1 and rule.targets[0] in stored
    }


def _regular(model: Any, wanted: set[str], layout: str) -> tuple[Rule, ...]:
    """Each weight under its own path; the type of its module says what it is called and how its axes lie."""
    about = layout_module(layout)
    kinds = {path: _kind(module) for path, module in model.named_modules()}
    collections = layout == "flax" and "batch_norm" in kinds.values()
    rules = []
    for name in sorted(wanted):
        path, _, leaf = name.rpartition(".")
        known = about.SPELLINGS.get((kinds.get(path) or "", leaf))
        last, ops = (known.name, known.ops) if known else (leaf, ())
        target = about.DIALECT.join("", f"{path}.{last}" if path else last, {})
        if collections:
            target = f"{'batch_stats' if leaf in STATISTICS else 'params'}/{target}"
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
