"""Activation functions in float64, so that their rounding adds nothing to what is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def softmax(logits: npt.NDArray[Any], axis: int = -1) -> npt.NDArray[Any]:
    """Returns probabilities."""
    wide = logits.astype(np.float64)
    exponent = np.exp(wide - wide.max(axis=axis, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=axis, keepdims=True))


def log_softmax(logits: npt.NDArray[Any], axis: int = -1) -> npt.NDArray[Any]:
    """Returns logarithms of probabilities."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def sigmoid(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns probabilities of independent labels.

    Computed as ``exp(-log(1 + exp(-x)))``, which does not overflow for large negative logits.
    """
    return np.asarray(np.exp(-np.logaddexp(0, -logits.astype(np.float64))))
