"""Maps the weights of a PyTorch model to the names and axis order of Flax or TensorFlow, and back in a JAX program.

Where ``convert/archs`` has a file for the architecture, the layout is that of transformers 4.57.6. Other architectures
get the regular layout, which follows from the classes of the modules alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.framework_types import JaxArray, JaxTree, TorchModel
from equipoise.convert.core.ops import apply_all
from equipoise.convert.core.rules import Rule
from equipoise.convert.derive.probe.module_kinds import module_kind
from equipoise.convert.layouts import layout_module

BATCH_STATISTICS = ("running_mean", "running_var")
"""Leaves that Flax keeps in a collection of their own."""


@dataclass(frozen=True)
class WeightLayout:
    """Rules from PyTorch's names to those of a layout (``encoder/layer/0/kernel``).

    Attributes:
        rules: A rule for every weight that the layout stores; tables that follow from the config may be left out.
        origin: ``transformers 4.57.6`` or ``regular``.
    """

    rules: tuple[Rule, ...]
    origin: str

    def from_pytorch(self, arrays: Mapping[str, JaxArray]) -> dict[str, JaxArray]:
        """Converts arrays by PyTorch's names to arrays by the layout's names."""
        return _apply_rules(self.rules, arrays)

    def to_pytorch(self, arrays: Mapping[str, JaxArray]) -> dict[str, JaxArray]:
        """Converts arrays by the layout's names to arrays by PyTorch's names; works in a traced JAX program."""
        return _apply_rules([rule.inverse for rule in self.rules], arrays)


def weight_layout(model: TorchModel, names: Iterable[str], layout: str) -> WeightLayout:
    """Returns names and axis order of a model's weights in another layout.

    Args:
        model: A model of transformers.
        names: Names of the weights in its ``state_dict``.
        layout: ``flax`` or ``tensorflow``.
    """
    wanted = set(names)
    rules = _rules_from_spec(model, wanted, layout)
    if rules is not None:
        return WeightLayout(rules, "transformers 4.57.6")
    return WeightLayout(_regular_rules(model, wanted, layout), "regular")


def _rules_from_spec(model: TorchModel, wanted: set[str], layout: str) -> tuple[Rule, ...] | None:
    """Returns the rules of the architecture's file; None if there is none for this class, or its names differ."""
    spec = load_spec(model.config.model_type)
    cls = spec.class_by_name(type(model).__name__) if spec else None
    if spec is None or cls is None or layout not in cls.names:
        return None
    try:
        expansion = expand(spec, cls, Config(model.config.to_dict()))
        view = layout_module(layout).view(expansion)
    except EquipoiseError:
        return None
    known = _model_names_by_spec_name(expansion, _model_names_by_file_name(model, wanted))
    rules = tuple(
        Rule(tuple(known[name] for name in rule.sources), rule.targets, rule.ops)
        for rule in view.rules
        if all(name in known and name not in view.shared for name in rule.sources)
    )
    covered = {name for rule in rules for name in rule.sources}
    computed = {name for one, name in known.items() if expansion.parameters[one].computed}
    return rules if covered | computed == wanted else None


def _model_names_by_file_name(model: TorchModel, wanted: set[str]) -> dict[str, str]:
    """Returns names in files -> names in the model: transformers 5 renamed modules, but not in files."""
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    own = {name: torch.empty_like(one, device="meta") for name, one in model.state_dict().items()}
    names = {id(tensor): name for name, tensor in own.items()}
    saved = revert_weight_conversion(model, dict(own))
    found = {file: names[id(tensor)] for file, tensor in saved.items() if id(tensor) in names}
    return {file: name for file, name in found.items() if name in wanted}


def _model_names_by_spec_name(expansion: Expansion, files: Mapping[str, str]) -> dict[str, str]:
    """Returns names in the spec -> names in the model, matched by their names in files."""
    view = layout_module("pytorch").view(expansion)
    stored = {view.aliases.get(file, file): name for file, name in files.items()}
    return {
        rule.sources[0]: stored[rule.targets[0]]
        for rule in view.rules
        if len(rule.sources) == len(rule.targets) == 1 and rule.targets[0] in stored
    }


def _regular_rules(model: TorchModel, wanted: set[str], layout: str) -> tuple[Rule, ...]:
    """Returns a rule for each weight under its own path; the class of its module decides leaf name and axis order."""
    about = layout_module(layout)
    kinds = {path: module_kind(module) for path, module in model.named_modules()}
    collections = layout == "flax" and "batch_norm" in kinds.values()
    rules = []
    for name in sorted(wanted):
        path, _, leaf = name.rpartition(".")
        known = about.SPELLINGS.get((kinds.get(path) or "", leaf))
        last, ops = (known.name, known.ops) if known else (leaf, ())
        target = about.DIALECT.join("", f"{path}.{last}" if path else last, {})
        if collections:
            target = f"{'batch_stats' if leaf in BATCH_STATISTICS else 'params'}/{target}"
        rules.append(Rule((name,), (target,), ops))
    return tuple(rules)


def _apply_rules(rules: Iterable[Rule], arrays: Mapping[str, JaxArray]) -> dict[str, JaxArray]:
    from jax import numpy as jnp

    found: dict[str, JaxArray] = {}
    for rule in rules:
        sources = tuple(arrays[name] for name in rule.sources)
        found.update(zip(rule.targets, apply_all(rule.ops, sources, jnp), strict=True))
    return found


def nest_paths(arrays: Mapping[str, JaxArray]) -> dict[str, JaxTree]:
    """Builds a tree from paths.

    >>> nest_paths({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, JaxTree] = {}
    for path, value in arrays.items():
        *parents, last = path.split("/")
        here = tree
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    return tree


def flatten_tree(tree: Mapping[str, JaxTree], path: str = "") -> dict[str, JaxTree]:
    """Returns the leaves of a tree by path.

    >>> flatten_tree({"a": {"b": 1, "c": 2}})
    {'a/b': 1, 'a/c': 2}
    """
    found: dict[str, JaxArray] = {}
    for name, value in tree.items():
        here = f"{path}/{name}" if path else name
        found.update(flatten_tree(value, here) if isinstance(value, Mapping) else {here: value})
    return found
