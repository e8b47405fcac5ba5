"""Recurrences as loops of the program: a loop of Python over the tokens is as long as the example for ever."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from equipoise.exporters.patches.scans import FUNCTIONS, METHODS


def patch_recurrences(model: Any) -> list[str]:
    """Has recurrences counted by the program wherever ``torch.export`` looks on; gives what there is to note."""
    found = list(_find_recurrences(model))
    for place, name, scan in found:
        plain = getattr(place, name)
        if not hasattr(plain, "of_equipoise"):
            setattr(place, name, _use_scan_when_exporting(plain, scan))
    return ["under torch.export the recurrence is one scan, its length is free"] if found else []


def _find_recurrences(model: Any) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Where recurrences are that the model uses: a module or a class, a name in it, and the loop."""
    kinds = {type(part) for part in model.modules()}
    modules = [sys.modules[place] for place in sorted({kind.__module__ for kind in kinds})]
    for module in modules:
        for name, scan in FUNCTIONS.items():
            if hasattr(module, name):
                yield module, name, scan
    for kind in kinds:
        for (owner, name), scan in METHODS.items():
            if kind.__name__ == owner:
                yield kind, name, scan


def _is_supported(part: Any) -> bool:
    """Whether a loop knows all that the part of a model does: an LSTM may project, or have no biases."""
    return not getattr(part, "proj_size", 0) and getattr(part, "bias", True) is not False


def _use_scan_when_exporting(plain: Any, scan: Callable[..., Any]) -> Any:
    """The function itself, but for ``torch.export``."""
    import torch

    @wraps(plain)
    def called(*args: Any, **kwargs: Any) -> Any:
        follows = torch.compiler.is_exporting() and _is_supported(args[0])
        return (scan if follows else plain)(*args, **kwargs)

    called.of_equipoise = True  # type: ignore[attr-defined]
    return called
