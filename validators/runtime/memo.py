"""A runner that runs equal passes once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.validators.core.types import Array, Arrays, CallOption, Runner


class MemoRunner:
    """Forwards all calls to a runner; a :meth:`run` whose inputs had been seen before returns the outputs that it had then.

    Args:
        runner: The model.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: list[tuple[Arrays, dict[str, CallOption], Arrays]] = []

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the runner accepts."""
        return self._runner.accepts

    @property
    def caches(self) -> bool:
        """Whether the runner has a KV cache."""
        return self._runner.caches

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Runs one forward pass, or returns the outputs of an equal one."""
        for known, options, outputs in self._known:
            if options == kwargs and _are_equal(known, inputs):
                return outputs
        outputs = self._runner.run(inputs, **kwargs)
        self._known.append((dict(inputs), dict(kwargs), outputs))
        return outputs

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Runs one step, always."""
        return self._runner.step(inputs, state, order, **kwargs)


def _are_equal(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    return ours.keys() == theirs.keys() and all(
        np.array_equal(value, theirs[name]) for name, value in ours.items()
    )
