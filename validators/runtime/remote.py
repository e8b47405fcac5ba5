"""Models in worker processes: loading, running, capturing modules, and the cost of all that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters.cache_names import is_state
from equipoise.validators.core.types import (
    Array,
    Arrays,
    CallOption,
    CapturedModule,
    CapturedPass,
    ForwardPass,
)
from equipoise.validators.runtime.process import WorkerProcess

_numbers = count(1)


@dataclass
class RunStats:
    """The cost of a model's forward passes.

    Attributes:
        seconds: Duration of each pass in order, as measured by the worker.
        peak_bytes: Peak memory of the worker or its device.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, answer: Mapping[str, Any]) -> None:
        """Adds one pass."""
        self.seconds.append(float(answer["seconds"]))
        self.peak_bytes = max(self.peak_bytes, int(answer["peak_bytes"]))


class RemoteModel:
    """A model that is loaded in a worker process.

    Args:
        worker: The process.
        backend: A backend: ``pytorch``, ``tensorflow``, ``onnx`` ..., or the path of a file that is one.
        class_name: PyTorch's class; backends of programs ignore it.
        folder: The model's folder, or the program.
        options: Options that ``backends/base.py`` lists: ``dtype``, ``device``, ``threads`` ...

    Attributes:
        info: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of the loading.
        about: What the model really runs on.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        backend: str,
        class_name: str,
        folder: str | Path,
        **options: CallOption,
    ) -> None:
        self.name = f"model-{next(_numbers)}"
        self.worker = worker
        answer, _ = worker.request(
            "load",
            model=self.name,
            backend=backend,
            folder=str(folder),
            options=options,
            **{"class": class_name},
        )
        self.info: dict[str, list[str]] = answer["info"]
        self.about: dict[str, Any] = answer["about"]

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Returns all floating-point outputs by dotted names."""
        _, outputs = self.worker.request("run", inputs, model=self.name, kwargs=kwargs)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight by the framework's own name."""
        answer, _ = self.worker.request("names", model=self.name)
        names: dict[str, list[int]] = answer["names"]
        return names

    def renamed(self) -> dict[str, str]:
        """Returns names of weights in the file -> names in the model, where the two differ."""
        answer, _ = self.worker.request("renamed", model=self.name)
        renamed: dict[str, str] = answer["renamed"]
        return renamed

    def drop(self) -> None:
        """Releases the model."""
        self.worker.request("drop", model=self.name)


class RemoteRunner:
    """A :class:`~equipoise.validators.core.types.Runner` of a model in a worker process.

    Attributes:
        model: The model.
        stats: The cost of its passes.
    """

    def __init__(self, model: RemoteModel) -> None:
        self.model = model
        self.stats = RunStats()

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the model accepts."""
        return frozenset(self.model.about["accepts"])

    @property
    def caches(self) -> bool:
        """Whether :meth:`step` works."""
        return bool(self.model.about["caches"])

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Runs one forward pass without a cache."""
        answer, outputs = self._request("run", inputs, self._without_cache(kwargs))
        self.stats.add(answer)
        return _without_caches(outputs)

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Runs one forward pass whose cache stays in the worker."""
        rows = None if order is None else [int(row) for row in order]
        answer, outputs = self._request("step", inputs, kwargs, state=state, order=rows)
        self.stats.add(answer)
        return _without_caches(outputs), str(answer["state"])

    def capture(
        self, inputs: ForwardPass, state: str | None = None, **kwargs: CallOption
    ) -> CapturedPass:
        """Does what :meth:`run` or :meth:`step` does and returns every module, in the order in which they ended.

        Args:
            inputs: The pass.
            state: A cache of :meth:`step` to continue from.
            kwargs: Further keyword arguments of the model's forward.
        """
        passed = kwargs if inputs.cached else self._without_cache(kwargs)
        answer, arrays = self._request(
            "capture",
            inputs.inputs,
            passed,
            state=state,
            order=inputs.order,
            cached=inputs.cached,
        )
        sides: dict[str, Arrays] = {}
        for key, value in arrays.items():
            where, _, name = key.rpartition("|")
            sides.setdefault(where, {})[name] = value
        modules = [
            CapturedModule(
                values["path"],
                values["kind"],
                None if values["weights"] is None else tuple(values["weights"]),
                sides.get(f"inputs/{number}", {}),
                sides.get(f"outputs/{number}", {}),
            )
            for number, values in enumerate(answer["modules"])
        ]
        return CapturedPass(_without_caches(sides.get("results", {})), modules)

    def _without_cache(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {"use_cache": False, **kwargs} if "use_cache" in self.accepts else dict(kwargs)

    def _request(
        self, op: str, inputs: Mapping[str, Array], kwargs: Mapping[str, Any], **arguments: Any
    ) -> tuple[dict[str, Any], Arrays]:
        return self.model.worker.request(
            op, inputs, model=self.model.name, kwargs=dict(kwargs), **arguments
        )


def _without_caches(outputs: Arrays) -> Arrays:
    return {name: value for name, value in outputs.items() if not is_state(name)}


def replay(
    runner: RemoteRunner, passes: Sequence[ForwardPass], kwargs: Mapping[str, CallOption]
) -> tuple[list[Arrays], str | None]:
    """Runs recorded passes in order; returns their outputs, and the cache after the last one if it has one.

    Args:
        runner: The model; inputs that it does not accept are left out.
        passes: The passes.
        kwargs: Further keyword arguments of the model's forward.
    """
    outputs, state = [], None
    for one in passes:
        inputs = _select_accepted(runner, one.inputs)
        if one.cached:
            found, state = runner.step(inputs, state, one.order, **kwargs)
        else:
            found, state = runner.run(inputs, **kwargs), None
        outputs.append(found)
    return outputs, state


def capture_last(
    runner: RemoteRunner, passes: Sequence[ForwardPass], kwargs: Mapping[str, CallOption]
) -> CapturedPass:
    """Returns outputs and modules of the last of several passes; with a cache it continues from those before it.

    Args:
        runner: The model; inputs that it does not accept are left out.
        passes: The passes.
        kwargs: Further keyword arguments of the model's forward.
    """
    *before, last = passes
    _, state = replay(runner, before if last.cached else (), kwargs)
    inputs = _select_accepted(runner, last.inputs)
    return runner.capture(replace(last, inputs=inputs), state, **kwargs)


def _select_accepted(runner: RemoteRunner, inputs: Arrays) -> Arrays:
    return {name: value for name, value in inputs.items() if name in runner.accepts}
