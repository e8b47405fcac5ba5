"""Names of indices of shards."""

from __future__ import annotations

import re
from pathlib import Path

_INDEX_ENDING = re.compile(r"\.index(\.[\w-]+)?\.json")


def is_shard_index(path: Path) -> bool:
    """Whether a file name is that of an index of shards, e.g. ``model.safetensors.index.fp16.json``."""
    return _INDEX_ENDING.search(path.name) is not None


def without_index_ending(name: str) -> str:
    """Returns the name of the weights that an index of shards stands for; any other name unchanged.

    >>> without_index_ending("tf_model.h5.index.json"), without_index_ending("model.safetensors.index.fp16.json")
    ('tf_model.h5', 'model.safetensors')
    """
    return _INDEX_ENDING.sub("", name)
