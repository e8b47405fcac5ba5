"""What tasks and loops ask of a loaded model, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


class Runner(Protocol):
    """A loaded model: named arrays in, named arrays out.

    Outputs are flattened to dotted names (``logits``, ``past_key_values.0.1``); those that every forward of
    that class gives are among them, caches are not. Floating outputs keep their width (float64 stays);
    bfloat16 comes as float32, which holds it exactly.
    """

    @property
    def accepts(self) -> frozenset[str]:
        """The names of the inputs that it takes."""
        ...

    @property
    def caches(self) -> bool:
        """Whether :meth:`step` works: the model keeps keys and values between calls."""
        ...

    def run(self, inputs: Mapping[str, Array], **kwargs: Any) -> Arrays:
        """One forward pass; ``kwargs`` are plain values for the model's forward."""
        ...

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> tuple[Arrays, str]:
        """A forward pass that keeps its cache.

        Args:
            inputs: The first time everything; later the new tokens only (``input_ids`` or
                ``decoder_input_ids``), with the attention mask over all that has been, and positions if
                the model takes them. What an encoder gave is kept with the cache.
            state: The name of the cache to go on from; it is used up by the call.
            order: Rows of the cache to go on with, e.g. ``[0, 0, 2]``; for beams. None keeps them.
            kwargs: Plain values for the model's forward.

        Returns:
            The outputs, and the name of the new cache.
        """
        ...


def softmax(logits: Array, axis: int = -1) -> Array:
    """Probabilities, computed in float64."""
    wide = logits.astype(np.float64)
    exponent = np.exp(wide - wide.max(axis=axis, keepdims=True))
    return exponent / exponent.sum(axis=axis, keepdims=True)  # type: ignore[no-any-return]


def log_softmax(logits: Array, axis: int = -1) -> Array:
    """Logarithms of probabilities, computed in float64."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))  # type: ignore[no-any-return]
