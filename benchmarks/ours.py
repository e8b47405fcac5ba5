"""Runs and measures one call of Equipoise, in a process of its own: ``ours.py convert|inspect ARGUMENT...``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def convert(source: str, output: str, to: str) -> None:
    """Converts a folder."""
    from equipoise.convert import convert as run

    run(source, output, to=to)


def inspect(source: str) -> None:
    """Opens a folder and finds the class of its model."""
    from equipoise.convert import open_checkpoint
    from equipoise.convert.checkpoints.find_class import find_class

    find_class(open_checkpoint(Path(source)))


CALLS: dict[str, Callable[..., None]] = {"convert": convert, "inspect": inspect}


if __name__ == "__main__":
    import equipoise.convert  # noqa: F401 - so that the measured time includes no imports

    began = time.perf_counter()
    CALLS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({"call": time.perf_counter() - began}))
