"""Replaces recurrent loops of models by ``scan`` during torch.export: a Python loop would have the example's length forever."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from equipoise.convert.core.framework_types import TorchModel, TorchModule
from equipoise.exporters.patches.scans import FUNCTIONS, METHODS


def patch_recurrences(model: TorchModel) -> list[str]:
    """Replaces recurrences by ``scan`` wherever ``torch.export`` traces them; returns notes for artifact.json."""
    found = list(_find_recurrences(model))
    for place, name, scan in found:
        plain = getattr(place, name)
        if not hasattr(plain, "of_equipoise"):
            setattr(place, name, _use_scan_when_exporting(plain, scan))
    return ["under torch.export the recurrence is one scan, its length is free"] if found else []


def _find_recurrences(model: TorchModel) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Yields the recurrences that a model uses: a module or class, the name in it, and the replacement."""
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


def _is_supported(part: TorchModule) -> bool:
    """Checks whether the replacement covers a module: an LSTM may project its output, or have no biases."""
    return not getattr(part, "proj_size", 0) and getattr(part, "bias", True) is not False


def _use_scan_when_exporting(plain: Any, scan: Callable[..., Any]) -> Any:
    """Returns a function that calls the replacement during ``torch.export`` and the original otherwise."""
    import torch

    @wraps(plain)
    def called(*args: Any, **kwargs: Any) -> Any:
        follows = torch.compiler.is_exporting() and _is_supported(args[0])
        return (scan if follows else plain)(*args, **kwargs)

    called.of_equipoise = True  # type: ignore[attr-defined]
    return called
