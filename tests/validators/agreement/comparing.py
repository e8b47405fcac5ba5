"""Compares the results of a call on both sides: structure, decisions, and numbers up to a tolerance."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

TOLERANCE = 1e-4
"""Tolerance of scores, absolute and relative: float32 in transformers, float64 here."""

PIXEL_SHARE = 0.001
"""Share of a mask's pixels that may differ: at a border, rounding decides."""


def difference(found: dict[str, Any], wanted: dict[str, Any], *, is_refused: bool = False) -> str:
    """Returns how the outcome of a call differs from that of ``pipeline()``; empty if it does not.

    Where ``pipeline()`` raises, and where a call is one of those that Equipoise refuses by name, it must refuse.
    """
    if "crashes" in found:
        return f"crashes: {found['crashes']}"
    if is_refused:
        raised = found.get("raises", "")
        is_named = " is not supported" in raised or " takes at least " in raised
        return "" if is_named else f"not refused: {found}"
    if "raises" in wanted:
        return (
            ""
            if "raises" in found
            else f"pipeline() raises {wanted['raises']}, run gives {found['results']}"
        )
    if "raises" in found:
        return f"run refuses: {found['raises']}; pipeline() gives {str(wanted['results'])[:200]}"
    return _difference(found["results"], wanted["results"], "")


def _difference(found: Any, wanted: Any, where: str) -> str:
    if _is_list_of_one(wanted) and not (
        _is_list_of_one(found) and type(found[0]) is type(wanted[0])
    ):
        wanted = wanted[0]  # some pipelines give a list for one sample
    if isinstance(wanted, dict) and isinstance(found, dict):
        if "packed" in wanted or "bits" in wanted:
            return _image_difference(found, wanted, where)
        if set(found) != set(wanted):
            return f"{where}: fields {sorted(found)}, not {sorted(wanted)}"
        parts = (_difference(found[key], wanted[key], f"{where}.{key}") for key in wanted)
        return next(filter(None, parts), "")
    if isinstance(wanted, list) and isinstance(found, list):
        if len(found) != len(wanted):
            return f"{where}: {len(found)} items, not {len(wanted)}: {found} / {wanted}"
        parts = (
            _difference(ours, theirs, f"{where}[{index}]")
            for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True))
        )
        return next(filter(None, parts), "")
    if isinstance(wanted, float) and isinstance(found, float | int):
        close = np.isclose(found, wanted, TOLERANCE, TOLERANCE, equal_nan=True)
        return "" if close else f"{where}: {found}, not {wanted}"
    same = found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
    return "" if same else f"{where}: {found!r}, not {wanted!r}"


def _is_list_of_one(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _image_difference(found: dict[str, Any], wanted: dict[str, Any], where: str) -> str:
    field = "packed" if "packed" in wanted else "bits"
    facts = [key for key in wanted if key != field]
    if field not in found or any(found.get(key) != wanted[key] for key in facts):
        return f"{where}: {[found.get(key) for key in facts]}, not {[wanted[key] for key in facts]}"
    ours, theirs = (
        np.frombuffer(zlib.decompress(base64.b64decode(one[field])), np.uint8)
        for one in (found, wanted)
    )
    if field == "bits":
        ours, theirs = np.unpackbits(ours), np.unpackbits(theirs)
    share = float(
        (np.abs(ours.astype(int) - theirs.astype(int)) > (0 if field == "bits" else 1)).mean()
    )
    return "" if share <= PIXEL_SHARE else f"{where}: {share:.2%} of the pixels differ"
