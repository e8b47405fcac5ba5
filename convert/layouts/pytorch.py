"""The layout of PyTorch: names joined by dots. All other layouts have rules from and to it."""

from __future__ import annotations

from dataclasses import replace

from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.architectures.module_kinds import MODULE_KINDS, WEIGHT_NORM_LEAVES
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

FORMATS = {
    "pytorch-safetensors": Format(
        "pytorch-safetensors", "safetensors", "model.safetensors", {"format": "pt"}
    ),
    "pytorch-bin": Format("pytorch-bin", "pytorch", "pytorch_model.bin"),
}

# Checkpoints converted from the original TensorFlow releases of BERT name norms like this.
_OLD_NORM = {"weight": "gamma", "bias": "beta"}

_INNER_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put before the names of a module, at any level."""
_WRAPPERS = ("module.", *_INNER_WRAPPERS)

SPELLINGS = {
    (kind, leaf): ParameterSpelling(leaf)
    for kind, entry in MODULE_KINDS.items()
    for leaf in entry.leaves
}
SPELLINGS |= {
    ("weight_norm_conv1d", old): ParameterSpelling(new) for old, new in WEIGHT_NORM_LEAVES.items()
}


def _join(prefix: str, rest: str, overrides: LayoutOverrides) -> str:
    return ".".join(part for part in (prefix, rest) if part)


DIALECT = Dialect("pytorch", SPELLINGS, _join, ".", ties_by_config=True, strips_prefix=True)


def view(expansion: Expansion) -> LayoutView:
    """Returns how PyTorch names and stores the parameters."""
    built, overrides = build_view(expansion, DIALECT)
    aliases: dict[str, str] = {}
    for rule in built.rules:
        if len(rule.sources) > 1 or len(rule.targets) > 1:
            continue
        parameter, stored = expansion.parameters[rule.sources[0]], rule.targets[0]
        spellings = {stored, *_other_leaves(parameter.kind, parameter.leaf, stored)}
        for spelling in sorted(spellings):
            for other in _other_prefixes(spelling, expansion, overrides):
                aliases.setdefault(other, stored)
    own = {name for rule in built.rules for name in rule.targets}
    aliases = {other: stored for other, stored in aliases.items() if other not in own}
    return replace(built, aliases=aliases)


def _other_leaves(kind: str, leaf: str, stored: str) -> list[str]:
    if kind == "weight_norm_conv1d" and leaf in WEIGHT_NORM_LEAVES:
        return [stored.removesuffix(WEIGHT_NORM_LEAVES[leaf]) + leaf]
    if kind in ("norm", "batch_norm") and leaf in _OLD_NORM:
        return [stored.removesuffix(leaf) + _OLD_NORM[leaf]]
    return []


def _other_prefixes(name: str, expansion: Expansion, overrides: LayoutOverrides) -> list[str]:
    """Returns the name as it is, with the base class's prefix, without prefixes that may be missing, and with others."""
    found = [name]
    prefix = expansion.spec.prefix
    if expansion.cls.base and prefix:
        found.append(f"{prefix}.{name}")
    found += [
        name.removeprefix(old) for old in overrides.get("prefixes", []) if name.startswith(old)
    ]
    found += [
        new + name.removeprefix(old)
        for old, new in overrides.table("aliases").items()
        if name.startswith(old)
    ]
    return found


def decode(name: str, container: str, variant: str) -> str:
    """Returns the name without prefixes of wrappers: ``module.`` (DataParallel) and those of :data:`_INNER_WRAPPERS`."""
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    for wrapper in _INNER_WRAPPERS:
        name = name.replace(f".{wrapper}", ".")
    return name


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the name unchanged."""
    return name
