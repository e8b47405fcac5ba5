"""The layout of T5X: trees of T5 and its kin as Google's JAX code names them.

``encoder/layers_0/attention/query/kernel``: kernels with the output axis last, the heads joined, the table of relative positions as [heads,
buckets]. The optimizer's state lies beside the tree ``target``, which ``--subtree target`` takes.
"""

from __future__ import annotations

from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.core.ops import Permute
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

FORMATS = {
    "t5x-msgpack": Format("t5x-msgpack", "flax_msgpack", "flax_model.msgpack"),
    "t5x-orbax": Format("t5x-orbax", "orbax", "orbax_checkpoint/_METADATA", splits=False),
    "t5x-safetensors": Format(
        "t5x-safetensors", "safetensors", "model.safetensors", {"format": "t5x"}
    ),
}

SPELLINGS = {
    ("linear", "weight"): ParameterSpelling("kernel", (Permute((1, 0)),)),
    ("linear", "bias"): ParameterSpelling("bias"),
    ("embedding", "weight"): ParameterSpelling("embedding"),
    ("rms_norm", "weight"): ParameterSpelling("scale"),
}


def join(prefix: str, rest: str, overrides: LayoutOverrides) -> str:
    """Returns a module's path."""
    return "/".join(part for part in (prefix, rest.replace(".", "/")) if part)


DIALECT = Dialect("t5x", SPELLINGS, join, "/", ties_by_config=False, strips_prefix=False)


def view(expansion: Expansion) -> LayoutView:
    """Returns how T5X names and stores the parameters."""
    return build_view(expansion, DIALECT)[0]


def decode(name: str, container: str, variant: str) -> str:
    """Returns the keys joined by slashes; safetensors joins them by dots."""
    return name.replace(".", "/") if container == "safetensors" else name


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the keys joined with the container's separator."""
    return name.replace("/", ".") if container == "safetensors" else name
