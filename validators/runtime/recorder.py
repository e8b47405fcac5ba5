"""A runner that records the inputs of all calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.validators.core.types import Array, Arrays, CallOption, ForwardPass, Runner
from equipoise.validators.runtime.forwarding import ForwardingRunner


class Recorder(ForwardingRunner):
    """Forwards all calls to a runner and records their inputs.

    Attributes:
        passes: Inputs of every :meth:`run`.
        forward: Every :meth:`run` and :meth:`step` in order.
        outputs: The outputs of each.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.passes: list[Arrays] = []
        self.forward: list[ForwardPass] = []
        self.outputs: list[Arrays] = []

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Records the inputs and runs one forward pass."""
        self.passes.append(dict(inputs))
        self.forward.append(ForwardPass(dict(inputs)))
        self.outputs.append(super().run(inputs, **kwargs))
        return self.outputs[-1]

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Records the inputs and runs one step."""
        rows = None if order is None else tuple(int(row) for row in order)
        self.forward.append(ForwardPass(dict(inputs), cached=True, order=rows))
        outputs, state = super().step(inputs, state, order, **kwargs)
        self.outputs.append(outputs)
        return outputs, state
