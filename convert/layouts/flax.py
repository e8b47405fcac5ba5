"""The layout of Flax (linen classes of transformers 4): names joined by slashes, output axis last."""

from __future__ import annotations

from dataclasses import replace

from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.core.ops import Permute
from equipoise.convert.core.rules import Rule
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

FORMATS = {
    "flax-msgpack": Format("flax-msgpack", "flax_msgpack", "flax_model.msgpack"),
    "flax-safetensors": Format(
        "flax-safetensors", "safetensors", "model.safetensors", {"format": "flax"}
    ),
    "flax-orbax": Format("flax-orbax", "orbax", "orbax_checkpoint/_METADATA", splits=False),
}

SPELLINGS = {
    ("linear", "weight"): ParameterSpelling("kernel", (Permute((1, 0)),)),
    ("linear", "bias"): ParameterSpelling("bias"),
    # FlaxConv1D keeps its kernel as [outputs, inputs] and transposes it when it runs.
    ("hf_conv1d", "weight"): ParameterSpelling("kernel", (Permute((1, 0)),)),
    ("hf_conv1d", "bias"): ParameterSpelling("bias"),
    ("conv1d", "weight"): ParameterSpelling("kernel", (Permute((2, 1, 0)),)),
    ("conv1d", "bias"): ParameterSpelling("bias"),
    ("conv2d", "weight"): ParameterSpelling("kernel", (Permute((2, 3, 1, 0)),)),
    ("conv2d", "bias"): ParameterSpelling("bias"),
    ("conv3d", "weight"): ParameterSpelling("kernel", (Permute((2, 3, 4, 1, 0)),)),
    ("conv3d", "bias"): ParameterSpelling("bias"),
    ("conv_transpose2d", "weight"): ParameterSpelling("kernel", (Permute((2, 3, 0, 1)),)),
    ("conv_transpose2d", "bias"): ParameterSpelling("bias"),
    ("weight_norm_conv1d", "weight_g"): ParameterSpelling("weight_g"),
    ("weight_norm_conv1d", "weight_v"): ParameterSpelling("weight_v"),
    ("weight_norm_conv1d", "bias"): ParameterSpelling("bias"),
    ("embedding", "weight"): ParameterSpelling("embedding"),
    ("norm", "weight"): ParameterSpelling("scale"),
    ("norm", "bias"): ParameterSpelling("bias"),
    ("rms_norm", "weight"): ParameterSpelling("weight"),
    ("batch_norm", "weight"): ParameterSpelling("scale"),
    ("batch_norm", "bias"): ParameterSpelling("bias"),
    ("batch_norm", "running_mean"): ParameterSpelling("mean"),
    ("batch_norm", "running_var"): ParameterSpelling("var"),
    ("param", ""): ParameterSpelling(""),
}
_BATCH_STATISTICS = ("running_mean", "running_var")


def _join(prefix: str, rest: str, overrides: LayoutOverrides) -> str:
    return "/".join(part for part in (prefix, rest.replace(".", "/")) if part)


DIALECT = Dialect("flax", SPELLINGS, _join, "/", ties_by_config=False, strips_prefix=True)


def view(expansion: Expansion) -> LayoutView:
    """Returns how Flax names and stores the parameters; with batch norm there are two collections."""
    built, _ = build_view(expansion, DIALECT)
    kinds = {parameter.kind for parameter in expansion.parameters.values()}
    rules = built.rules
    if "batch_norm" in kinds:
        rules = tuple(_in_collection(rule, expansion) for rule in rules)
    prefix = expansion.spec.prefix
    aliases: dict[str, str] = {}
    for name in (name for rule in rules for name in rule.targets):
        spellings = [name]
        if expansion.cls.base and prefix:
            spellings.append(_with_prefix(name, prefix))
        if "batch_norm" not in kinds:
            # A tree that was saved as `model.init` returns it.
            spellings += [f"params/{one}" for one in spellings]
        aliases.update((one, name) for one in spellings if one != name)
    return replace(built, rules=rules, aliases=aliases)


def _in_collection(rule: Rule, expansion: Expansion) -> Rule:
    parameter = expansion.parameters[rule.sources[0]]
    collection = "batch_stats" if parameter.leaf in _BATCH_STATISTICS else "params"
    return Rule(rule.sources, tuple(f"{collection}/{name}" for name in rule.targets), rule.ops)


def _with_prefix(name: str, prefix: str) -> str:
    collection, slash, rest = name.partition("/")
    if collection in ("params", "batch_stats") and slash:
        return f"{collection}/{prefix}/{rest}"
    return f"{prefix}/{name}"


def decode(name: str, container: str, variant: str) -> str:
    """Returns the keys joined by slashes; safetensors joins them by dots."""
    return name.replace(".", "/") if container == "safetensors" else name


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the keys joined with the container's separator."""
    return name.replace("/", ".") if container == "safetensors" else name
