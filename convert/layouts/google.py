"""The layout of Google's own code and of what followed it: variables of TensorFlow 1, named by scopes.

``bert/encoder/layer_0/output/dense/kernel``: names joined by slashes, the number of a layer joined to the name before it, the output axis last, an
embedding without a name of its own below its scope. Only architectures with a section ``[google]`` have this layout; the section says what differs
(:mod:`equipoise.convert.layouts._overrides`); :mod:`equipoise.convert.research.marks` tells such checkpoints from those that Keras wrote.
"""

from __future__ import annotations

from dataclasses import replace

from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.core.ops import AddAxis, Permute
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

FORMATS = {
    "google-checkpoint": Format(
        "google-checkpoint", "tensor_bundle", "model.ckpt.index", splits=False
    ),
    "google-safetensors": Format(
        "google-safetensors", "safetensors", "model.safetensors", {"format": "google"}
    ),
}

SPELLINGS = {
    ("linear", "weight"): ParameterSpelling("kernel", (Permute((1, 0)),)),
    ("linear", "bias"): ParameterSpelling("bias"),
    # GPT-2 computes its linear layers as convolutions of width 1.
    ("hf_conv1d", "weight"): ParameterSpelling("w", (AddAxis(0),)),
    ("hf_conv1d", "bias"): ParameterSpelling("b"),
    ("conv1d", "weight"): ParameterSpelling("kernel", (Permute((2, 1, 0)),)),
    ("conv1d", "bias"): ParameterSpelling("bias"),
    ("conv2d", "weight"): ParameterSpelling("weights", (Permute((2, 3, 1, 0)),)),
    ("conv2d", "bias"): ParameterSpelling("biases"),
    ("embedding", "weight"): ParameterSpelling(""),
    ("norm", "weight"): ParameterSpelling("gamma"),
    ("norm", "bias"): ParameterSpelling("beta"),
    ("rms_norm", "weight"): ParameterSpelling("scale"),
    ("batch_norm", "weight"): ParameterSpelling("gamma"),
    ("batch_norm", "bias"): ParameterSpelling("beta"),
    ("batch_norm", "running_mean"): ParameterSpelling("moving_mean"),
    ("batch_norm", "running_var"): ParameterSpelling("moving_variance"),
    ("param", ""): ParameterSpelling(""),
}


_AVERAGE = "/ExponentialMovingAverage"


def _join(prefix: str, rest: str, overrides: LayoutOverrides) -> str:
    separator = overrides.get("indices", "_")
    found = prefix
    for part in rest.split(".") if rest else ():
        between = separator if part.isdigit() else "/"
        found = f"{found}{between}{part}" if found else part
    return found


DIALECT = Dialect("google", SPELLINGS, _join, "/", ties_by_config=False, strips_prefix=False)


def view(expansion: Expansion) -> LayoutView:
    """Returns how Google's code names and stores the parameters."""
    built, overrides = build_view(expansion, DIALECT)
    respelled = overrides.table("aliases")
    aliases = {
        other: name
        for rule in built.rules
        for name in rule.targets
        if (other := "/".join(respelled.get(part, part) for part in name.split("/"))) != name
    }
    return replace(built, aliases=aliases)


def decode(name: str, container: str, variant: str) -> str:
    """Returns the name of the variable: without ``:0``, the scope of a module of TensorFlow Hub, and what a moving average adds."""
    return name.removesuffix(":0").removeprefix("module/").removesuffix(_AVERAGE)


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the name unchanged."""
    return name
