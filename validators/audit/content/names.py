"""Compares names of weights across frameworks by their last parts."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SEPARATORS = re.compile(r"[./:]|_\._")
_LEAVES = {
    "kernel": "weight", "embedding": "weight", "embeddings": "weight", "gamma": "weight", "scale": "weight",
    "beta": "bias", "moving_mean": "running_mean", "mean": "running_mean", "moving_variance": "running_var",
    "var": "running_var", "depthwise_kernel": "weight",
}  # fmt: skip
"""Last part of a name in other frameworks -> the last part in PyTorch."""
_WRAPPERS = frozenset(("model", "params", "batch_stats", "constants"))
_MIN_SHARED_PARTS = 2


def name_parts(name: str) -> tuple[str, ...]:
    """Returns the parts of a name in PyTorch's spelling, without what wraps the model.

    >>> name_parts("bert/encoder/layer_._0/output/dense/kernel")
    ('bert', 'encoder', 'layer', '0', 'output', 'dense', 'weight')
    """
    parts = [part for part in _SEPARATORS.split(name) if part]
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        del parts[0]
    if parts:
        parts[-1] = _LEAVES.get(parts[-1], parts[-1])
    return tuple(parts)


def layer_of(name: str) -> str:
    """Returns the path of the layer that a tensor belongs to, in PyTorch's spelling.

    >>> layer_of("conv.parametrizations.weight.original0"), layer_of("encoder.dense.weight")
    ('conv', 'encoder.dense')
    """
    layer, parametrized, _ = name.partition(".parametrizations.")
    return layer if parametrized else name.rpartition(".")[0]


class NameIndex:
    """Finds the tensor that a name of another framework stands for.

    Args:
        names: Names of the source's tensors.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._by_leaf: dict[tuple[str, ...], list[tuple[str, tuple[str, ...]]]] = {}
        for name in names:
            parts = name_parts(name)
            self._by_leaf.setdefault(parts[-2:], []).append((name, parts))

    def find(self, name: str, module: str = "") -> str:
        """Returns the only tensor whose name ends like this one, or the other way round; empty if there is none.

        Args:
            name: A name of another framework.
            module: Path of the module that reads the weight, for names that say nothing.

        >>> index = NameIndex(["bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight"])
        >>> index.find("model.bert.pooler.dense.weight"), index.find("tf_bert/pooler/dense/kernel"), index.find("val_7")
        ('bert.pooler.dense.weight', '', '')
        >>> index.find("val_7", module="model.classifier")
        'classifier.weight'
        """
        return self._find(name) or (self._find(f"{module}.weight") if module else "")

    def _find(self, name: str) -> str:
        parts = name_parts(name)
        found = [
            other
            for other, own in self._by_leaf.get(parts[-2:], ())
            if len(parts) >= _MIN_SHARED_PARTS and _shorter_ends_longer(parts, own)
        ]
        exact = [other for other in found if name_parts(other) == parts]
        best = exact or found
        return best[0] if len(best) == 1 else ""


def _shorter_ends_longer(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    count = min(len(a), len(b))
    return a[-count:] == b[-count:]
