"""The layout of Google's own code and of what followed it: variables of TensorFlow 1, named by scopes.

``bert/encoder/layer_0/output/dense/kernel``: names joined by slashes, the number of a layer joined to the name before it, the output axis last, an
embedding without a name of its own below its scope. Only architectures with a section ``[google]`` have this layout; the section says what differs
(:mod:`equipoise.convert.layouts._overrides`) and, by ``marks``, what variables tell such a checkpoint from one that Keras wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import lru_cache

from equipoise.convert.architectures import name_templates
from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.core.ops import AddAxis, Permute
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

FORMATS = {
    "google-safetensors": Format(
        "google-safetensors", "safetensors", "model.safetensors", {"format": "google"}
    ),
    "google-checkpoint": Format("google-checkpoint", "tensor_bundle", "model.ckpt", writable=False),
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
    spelled = overrides.table("aliases")
    aliases = {
        other: name
        for rule in built.rules
        for name in rule.targets
        if (other := "/".join(spelled.get(part, part) for part in name.split("/"))) != name
    }
    return replace(built, aliases=aliases)


@lru_cache(maxsize=1)
def known_specs() -> tuple[ArchitectureSpec, ...]:
    """Returns the architectures that have this layout."""
    loaded = (load_spec(name) for name in spec_names())
    return tuple(spec for spec in loaded if spec is not None and spec.layouts["google"])


def marked_specs(names: Collection[str]) -> list[ArchitectureSpec]:
    """Returns the architectures whose marks are all among the names of a checkpoint's variables.

    >>> [spec.model_type for spec in marked_specs(["transformer/layer_0/rel_attn/qkv/kernel"])]
    ['transfo-xl']
    """
    return [
        spec
        for spec in known_specs()
        if all(any(_ends_as(mark, name) for name in names) for mark in _marks(spec))
    ]


def _marks(spec: ArchitectureSpec) -> Iterator[str]:
    yield from spec.layouts["google"]["marks"]


def _ends_as(mark: str, name: str) -> bool:
    """Whether a name is a mark, possibly with scopes before it."""
    while True:
        if name_templates.match_name(mark, name) is not None:
            return True
        _, slash, name = name.partition("/")
        if not slash:
            return False


def decode(name: str, container: str, variant: str) -> str:
    """Returns the name of the variable: without ``:0``, the scope of a module of TensorFlow Hub, and what a moving average adds."""
    return name.removesuffix(":0").removeprefix("module/").removesuffix(_AVERAGE)


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the name unchanged."""
    return name
