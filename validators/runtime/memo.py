"""A runner that runs equal passes once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.validators.core.types import Array, Arrays, CallOption, Runner
from equipoise.validators.runtime.forwarding import ForwardingRunner


class MemoRunner(ForwardingRunner):
    """Forwards all calls to a runner; a :meth:`run` whose inputs had been seen before returns the outputs that it had then;
    a :meth:`step` is run always, for its cache is consumed.

    Args:
        runner: The model.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self._known: list[tuple[Arrays, dict[str, CallOption], Arrays]] = []

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Runs one forward pass, or returns the outputs of an equal one."""
        for known, options, outputs in self._known:
            if options == kwargs and _are_equal(known, inputs):
                return outputs
        outputs = self._runner.run(inputs, **kwargs)
        self._known.append((dict(inputs), dict(kwargs), outputs))
        return outputs


def _are_equal(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    return ours.keys() == theirs.keys() and all(
        np.array_equal(value, theirs[name]) for name, value in ours.items()
    )
