"""A runner that notes what it is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.validators.core.types import Array, Arrays, CallOption, Runner


class Recorder:
    """Passes everything on to a runner.

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
        """Those of the runner."""
        return self._runner.accepts

    @property
    def caches(self) -> bool:
        """As the runner."""
        return self._runner.caches

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Notes the inputs of a pass."""
        self.passes.append(dict(inputs))
        return self._runner.run(inputs, **kwargs)

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Notes the inputs of a step."""
        self.steps.append(dict(inputs))
        return self._runner.step(inputs, state, order, **kwargs)
