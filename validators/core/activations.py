"""Activation functions in float64, so that their rounding adds nothing to what is compared."""

from __future__ import annotations

import numpy as np

from equipoise.validators.core.types import Array


def softmax(logits: Array, axis: int = -1) -> Array:
    """Returns probabilities."""
    wide = logits.astype(np.float64)
    exponent = np.exp(wide - wide.max(axis=axis, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=axis, keepdims=True))


def log_softmax(logits: Array, axis: int = -1) -> Array:
    """Returns logarithms of probabilities."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def sigmoid(logits: Array) -> Array:
    """Returns probabilities of independent labels.

    Computed as ``exp(-log(1 + exp(-x)))``, which does not overflow for large negative logits.
    """
    return np.asarray(np.exp(-np.logaddexp(0, -logits.astype(np.float64))))
