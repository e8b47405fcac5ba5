"""A runner that records the inputs of all calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.validators.core.types import Array, Arrays, CallOption, Runner


class Recorder:
    """Forwards all calls to a runner and records their inputs.

    Attributes:
        passes: Inputs of every :meth:`run`.
        steps: Inputs of every :meth:`step`.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.passes: list[Arrays] = []
        self.steps: list[Arrays] = []

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the runner accepts."""
        return self._runner.accepts

    @property
    def caches(self) -> bool:
        """Whether the runner has a KV cache."""
        return self._runner.caches

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Records the inputs and runs one forward pass."""
        self.passes.append(dict(inputs))
        return self._runner.run(inputs, **kwargs)

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Records the inputs and runs one step."""
        self.steps.append(dict(inputs))
        return self._runner.step(inputs, state, order, **kwargs)
