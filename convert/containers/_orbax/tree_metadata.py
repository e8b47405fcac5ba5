"""The file ``_METADATA`` of an Orbax checkpoint: the keys of the tree, and what each leaf is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.containers._shared.checks import check_name
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.json_values import read_json

_ARRAY_TYPES = ("jax.Array", "np.ndarray", "scalar")
_SHAPE = {
    "tree_metadata": {
        str: {
            "key_metadata": [{"key": (str, int)}],
            "value_metadata": {"value_type": str, "skip_deserialize?": bool},
        }
    },
    "use_zarr3?": (bool, None),
    "store_array_data_equal_to_fill_value?": (bool, None),
}
_DICT_KEY = 2
_HANDLER = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler"


@dataclass(frozen=True)
class TreeMetadata:
    """What the file says.

    Attributes:
        arrays: Keys joined by slashes -> name of the array in the store, its keys joined by dots.
        left_out: Keys joined by slashes -> why the leaf is no array.
        zarr3: Whether arrays are of zarr 3.
        stores_all: Whether chunks that are all zeros are stored too, so that a missing one is an error.
    """

    arrays: Mapping[str, str]
    left_out: Mapping[str, str]
    zarr3: bool
    stores_all: bool


def read_tree_metadata(path: Path) -> TreeMetadata:
    """Reads the file.

    Raises:
        CheckpointError: It is not JSON of this shape.
        ContainerError: Two leaves have the same name.
    """
    values = read_json(path, _SHAPE)
    arrays: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for entry in values["tree_metadata"].values():
        keys = [str(one["key"]) for one in entry["key_metadata"]]
        name = check_name("/".join(keys), path)
        if name in arrays or name in left_out:
            raise ContainerError(
                "two leaves have one name, since a key holds '/'", file=path, tensor=name
            )
        kind = entry["value_metadata"]["value_type"]
        if kind in _ARRAY_TYPES and not entry["value_metadata"].get("skip_deserialize"):
            arrays[name] = ".".join(keys)
        else:
            left_out[name] = f"{kind}, not an array"
    zarr3 = bool(values.get("use_zarr3"))
    stores_all = bool(values.get("store_array_data_equal_to_fill_value"))
    return TreeMetadata(arrays, left_out, zarr3, stores_all)


def tree_metadata_text(names: Iterable[str]) -> str:
    """Returns the content of ``_METADATA`` for arrays with keys joined by slashes."""
    tree = {
        str(tuple(name.split("/"))): {
            "key_metadata": [{"key": key, "key_type": _DICT_KEY} for key in name.split("/")],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        for name in names
    }
    return json.dumps(
        {
            "tree_metadata": tree,
            "use_ocdbt": True,
            "use_zarr3": False,
            "store_array_data_equal_to_fill_value": True,
            "custom_metadata": None,
        }
    )


def checkpoint_metadata_text() -> str:
    """Returns the content of ``_CHECKPOINT_METADATA``: which handler of Orbax reads the folder."""
    times = {"init_timestamp_nsecs": None, "commit_timestamp_nsecs": None}
    return json.dumps(
        {
            "item_handlers": _HANDLER,
            "metrics": {},
            "performance_metrics": {},
            **times,
            "custom_metadata": {},
        }
    )
