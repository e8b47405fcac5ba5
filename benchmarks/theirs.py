"""Runs and measures one conversion by transformers 4.57.6, in its own environment: ``theirs.py CLASS SOURCE OUTPUT TO``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(class_name: str, source: str, output: str, to: str) -> None:
    """Loads a model from another framework and saves it; prints the seconds of both together."""
    import torch  # noqa: F401 - imports are not what is measured
    import transformers

    prefix, arguments = _loading_arguments(source, to)
    cls: Any = getattr(transformers, prefix + class_name)
    began = time.perf_counter()
    model = cls.from_pretrained(source, **arguments)
    loaded = time.perf_counter() - began
    try:
        model.save_pretrained(output)
        what = "load and save"
    except NotImplementedError as error:
        # With this torch, a model that `from_tf` loaded keeps a meta tensor and cannot be saved.
        print(error, file=sys.stderr)
        what = "load only; saving fails"
    whole = time.perf_counter() - began
    print(json.dumps({"call": whole if what == "load and save" else loaded, "what": what}))


def _loading_arguments(source: str, to: str) -> tuple[str, dict[str, Any]]:
    if to == "tensorflow-h5":
        return "TF", {"from_pt": True}
    if to == "flax-msgpack":
        return "Flax", {"from_pt": True}
    flag = "from_tf" if source.endswith("tensorflow-h5") else "from_flax"
    return "", {flag: True}


if __name__ == "__main__":
    main(*sys.argv[1:])
