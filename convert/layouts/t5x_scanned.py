"""The layout of T5X with scanned layers: all layers of a stack in one array, along its second axis.

``encoder/encoder/attention/query/kernel`` is [d_model, layers, heads, d_kv]: ``nn.scan`` over the layers of the scalable T5, whose heads are an axis of
their own. Only the architectures that were published so have it (UMT5).
"""

from __future__ import annotations

from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView
from equipoise.convert.layouts.t5x import SPELLINGS, decode, encode, join

__all__ = ["FORMATS", "decode", "encode", "view"]

FORMATS = {
    "t5x-scanned-msgpack": Format("t5x-scanned-msgpack", "flax_msgpack", "flax_model.msgpack"),
    "t5x-scanned-orbax": Format(
        "t5x-scanned-orbax", "orbax", "orbax_checkpoint/_METADATA", splits=False
    ),
    "t5x-scanned-safetensors": Format(
        "t5x-scanned-safetensors", "safetensors", "model.safetensors", {"format": "t5x-scanned"}
    ),
}

DIALECT = Dialect("t5x-scanned", SPELLINGS, join, "/", ties_by_config=False, strips_prefix=False)


def view(expansion: Expansion) -> LayoutView:
    """Returns how T5X names and stores the parameters of scanned layers."""
    return build_view(expansion, DIALECT)[0]
