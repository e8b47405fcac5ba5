"""A runner that forwards all calls to another: the base of those that add something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.validators.core.types import Array, Arrays, CallOption, Runner


class ForwardingRunner:
    """Forwards all calls to a runner.

    Args:
        runner: The model.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the runner accepts."""
        return self._runner.accepts

    @property
    def caches(self) -> bool:
        """Whether the runner has a KV cache."""
        return self._runner.caches

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Runs one forward pass."""
        return self._runner.run(inputs, **kwargs)

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Runs one step."""
        return self._runner.step(inputs, state, order, **kwargs)
