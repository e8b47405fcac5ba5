"""Compares decoded outputs with those that ``pipeline()`` of transformers 4.57.6 returned."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import pytest

TOLERANCE = 1e-4
"""Tolerance of scores: float32 in transformers 4.57.6, float64 here."""


def compare(found: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, list) and len(wanted) == 1 and isinstance(found, dict):
        wanted = wanted[0]
    if isinstance(wanted, dict) and "packed" in wanted:
        _compare_images(found, wanted, where)
    elif isinstance(wanted, dict) and "bits" in wanted:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(wanted["bits"])), np.uint8)
        mask = np.unpackbits(bits)[: np.prod(wanted["shape"])].reshape(wanted["shape"]) == 1
        assert (np.asarray(found) == mask).mean() > 0.999, where
    elif isinstance(wanted, dict) and "every37th" in wanted:
        array = np.asarray(found)
        assert list(array.shape) == wanted["shape"], where
        np.testing.assert_allclose(array.ravel()[::37], wanted["every37th"], TOLERANCE, TOLERANCE)
    elif isinstance(wanted, dict):
        assert set(found) == set(wanted), where
        for key, value in wanted.items():
            compare(found[key], value, f"{where} {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            compare(ours, theirs, f"{where} {index}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=TOLERANCE), where
    else:
        assert found == wanted, where


def _compare_images(found: Any, wanted: dict[str, Any], where: str) -> None:
    """Asserts equal images up to one grey level, or up to one in a thousand pixels of a mask."""
    raw = zlib.decompress(base64.b64decode(wanted["packed"]))
    assert (found.mode, list(found.size)) == (wanted["mode"], wanted["size"]), where
    ours, theirs = np.frombuffer(found.tobytes(), np.uint8), np.frombuffer(raw, np.uint8)
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    assert (apart > 1).mean() <= 0.001, where
