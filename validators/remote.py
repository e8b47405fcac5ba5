"""A model in a worker process, as tasks and loops see it; keeps account of time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from equipoise.exporters.kv_cache import is_state
from equipoise.validators.environment import RemoteModel
from equipoise.validators.runner import Array, Arrays


@dataclass
class Account:
    """What the passes of a model cost.

    Attributes:
        seconds: Of every pass, in order, as the worker measured them.
        peak_bytes: The most memory that the worker or its device has held.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, answer: Mapping[str, Any]) -> None:
        """Notes one pass."""
        self.seconds.append(float(answer["seconds"]))
        self.peak_bytes = max(self.peak_bytes, int(answer["peak_bytes"]))


@dataclass(frozen=True)
class Module:
    """A module's pass as :meth:`RemoteRunner.capture` gives it.

    Attributes:
        path: As the backend names it.
        kind: Its type.
        weights: The names of the weights in and beneath it, or None where the path is PyTorch's own.
        inputs: Its arrays by name or position.
        outputs: What it returned.
    """

    path: str
    kind: str
    weights: tuple[str, ...] | None
    inputs: Arrays
    outputs: Arrays


class RemoteRunner:
    """A :class:`~equipoise.validators.runner.Runner` over a model in a worker."""

    def __init__(self, model: RemoteModel) -> None:
        self.model = model
        self.account = Account()

    @property
    def accepts(self) -> frozenset[str]:
        """The names of the inputs that it takes."""
        return frozenset(self.model.about["accepts"])

    @property
    def caches(self) -> bool:
        """Whether :meth:`step` works."""
        return bool(self.model.about["caches"])

    def run(self, inputs: Mapping[str, Array], **kwargs: Any) -> Arrays:
        """One forward pass without a cache."""
        answer, outputs = self._request("run", inputs, self._kwargs(kwargs))
        self.account.add(answer)
        return _results(outputs)

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> tuple[Arrays, str]:
        """A forward pass that keeps its cache in the worker."""
        rows = None if order is None else [int(row) for row in order]
        answer, outputs = self._request("step", inputs, kwargs, state=state, order=rows)
        self.account.add(answer)
        return _results(outputs), str(answer["state"])

    def capture(
        self, inputs: Mapping[str, Array], state: str | None = None, **kwargs: Any
    ) -> tuple[Arrays, list[Module]]:
        """One forward pass that shows every module, in the order in which they ended.

        Args:
            inputs: The model's inputs.
            state: A cache of :meth:`step` to go on from.
            kwargs: Plain values for the model's forward.
        """
        passed = self._kwargs(kwargs) if state is None else kwargs
        answer, arrays = self._request("capture", inputs, passed, state=state)
        sides: dict[str, Arrays] = {}
        for key, value in arrays.items():
            where, _, name = key.rpartition("|")
            sides.setdefault(where, {})[name] = value
        modules = [
            Module(
                values["path"],
                values["kind"],
                None if values["weights"] is None else tuple(values["weights"]),
                sides.get(f"inputs/{number}", {}),
                sides.get(f"outputs/{number}", {}),
            )
            for number, values in enumerate(answer["modules"])
        ]
        return _results(sides.get("results", {})), modules

    def _kwargs(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {"use_cache": False, **kwargs} if "use_cache" in self.accepts else dict(kwargs)

    def _request(self, op: str, inputs: Mapping[str, Array], kwargs: Any, **more: Any) -> Any:
        return self.model.environment.request(
            op, inputs, model=self.model.name, kwargs=kwargs, **more
        )


def _results(outputs: Arrays) -> Arrays:
    return {name: value for name, value in outputs.items() if not is_state(name)}
