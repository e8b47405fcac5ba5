"""Criteria of others with their owners' thresholds, on the outputs of one default sample.

Each takes the reference's outputs and the artifact's, both in float32, as its owner does, and says whether it rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from equipoise.validators.core.types import Array, Arrays

Pairs = list[tuple[Array, Array]]
"""Outputs of floating point: the reference's and the artifact's."""


def judge_as_peers(reference: Arrays, found: Arrays | None) -> dict[str, bool]:
    """Returns for each criterion whether it rejects; an artifact that cannot run, or lacks an output, is rejected by all."""
    floats = {name: value for name, value in reference.items() if value.dtype.kind == "f"}
    top = {name: value for name, value in floats.items() if "." not in name} or floats
    if found is None or any(
        name not in found or found[name].shape != value.shape for name, value in top.items()
    ):
        return dict.fromkeys(CRITERIA, True)
    pairs = [
        (value.astype(np.float32), found[name].astype(np.float32)) for name, value in top.items()
    ]
    with np.errstate(all="ignore"):
        return {name: bool(rejects(pairs)) for name, rejects in CRITERIA.items()}


def exceeds(atol: float, rtol: float = 0.0) -> Callable[[Pairs], bool]:
    """Returns a criterion that rejects what ``numpy.allclose`` rejects."""

    def rejects(pairs: Pairs) -> bool:
        return not all(np.allclose(b, a, rtol=rtol, atol=atol) for a, b in pairs)

    return rejects


def last_rows(pairs: Pairs) -> Pairs:
    """Returns the last position of the first row of the main output: the last token's logits where there are tokens."""
    a, b = pairs[0]
    if a.ndim >= 3:
        a, b = a[0, -1], b[0, -1]
    elif a.ndim == 2:
        a, b = a[0], b[0]
    return [(a, b)]


def low_cosine(pairs: Pairs) -> bool:
    """Megatron-Bridge's compare script: the cosine of the last token's logits is below 0.99."""
    ((a, b),) = last_rows(pairs)
    a, b = a.ravel(), b.ravel()
    cosine = (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
    return not cosine >= 0.99


def high_divergence(pairs: Pairs) -> bool:
    """MaxText's logit checker: a Kullback-Leibler divergence of the softmax of 0.015 or more at any of the first tokens."""
    a, b = pairs[0]
    a, b = (one.reshape(-1, one.shape[-1])[:8] if one.ndim else one.reshape(1, 1) for one in (a, b))
    p, q = _log_softmax(a), _log_softmax(b)
    return not np.max(np.sum(np.exp(p) * (p - q), axis=-1)) < 0.015


def high_squared_error(pairs: Pairs) -> bool:
    """llama.cpp's model conversion check: the normalized squared error of the last token's logits is 0.01 or more."""
    ((a, b),) = last_rows(pairs)
    return not np.mean((a - b) ** 2) / np.mean(a**2) < 1e-2


def off_by_a_tenth(pairs: Pairs) -> bool:
    """Olive's discrepancy check: an element is off by more than 0.1."""
    return not all(np.all(np.abs(a - b) <= 0.1) for a, b in pairs)


def exporter_warns(pairs: Pairs) -> bool:
    """``torch.onnx.export(verify=True)``: an absolute difference of 5e-3 or a relative one of 0.1."""
    for a, b in pairs:
        error = np.abs(a - b)
        relative = error / np.maximum(np.abs(a), 1e-7)
        if not (np.max(error, initial=0) < 5e-3 and np.max(relative, initial=0) < 1e-1):
            return True
    return False


def _log_softmax(values: Array) -> Array:
    shifted = values.astype(np.float64) - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


CRITERIA: Mapping[str, Callable[[Pairs], Any]] = {
    "Megatron-Bridge: cosine 0.99": low_cosine,
    "MaxText: KL 0.015": high_divergence,
    "llama.cpp: NMSE 1e-2": high_squared_error,
    "Olive: 0.1": off_by_a_tenth,
    "torch.onnx verify: 5e-3, 0.1": exporter_warns,
    "1e-3": exceeds(1e-3, 1e-3),
    "Optimum: 1e-4": exceeds(1e-4, 1e-5),
    "Optimum, Polygraphy: 1e-5": exceeds(1e-5, 1e-5),
    "assert_close: 1e-5, 1.3e-6": exceeds(1e-5, 1.3e-6),
    "np.allclose: 1e-8, 1e-5": exceeds(1e-8, 1e-5),
}
"""Criterion -> whether it rejects; the loosest first."""
