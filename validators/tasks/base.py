"""What a task is: it owns what a model's inputs and outputs mean.

A task is one file in this folder that defines ``TASK``; its name is the file's, with hyphens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from equipoise.validators.core.types import Array, Arrays, Batch, Case, Decision, Runner, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import resolve_media_paths


class Task(Protocol):
    """A pipeline task; one instance without state serves every model."""

    name: str
    aliases: tuple[str, ...]
    auto_class: str
    """The auto class of transformers, e.g. ``AutoModelForSequenceClassification``."""

    def suits(self, model: ModelFolder) -> bool:
        """Whether the model's class and files are made for this task."""
        ...

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Real samples for a model whose folder brings none; of unequal sizes, three at least."""
        ...

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """How a batch varies: one, three, padded, long, left and right."""
        ...

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """The arrays of a case, through the model's own tokenizer or processor."""
        ...

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """The outputs of a batch: one forward pass, or a loop of them.

        Args:
            runner: The model.
            model: Its folder.
            batch: What :meth:`encode` gave.
            follow: Outputs of the reference for the same batch. A loop that chooses tokens takes the
                reference's choices, so that the numbers stay comparable, and reports its own beside.
        """
        ...

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: Any
    ) -> list[Any]:
        """What ``pipeline()`` returns, one a sample; ``options`` are those of its call (``top_k`` ...)."""
        ...

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """What is decided and how firmly, read off the reference's outputs."""
        ...


def forward(runner: Runner, batch: Batch) -> Arrays:
    """One forward pass with the inputs that the model takes."""
    known = {name: value for name, value in batch.arrays.items() if name in runner.accepts}
    return runner.run(known, **batch.kwargs)


def run_single_pass(
    self: object, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
) -> Arrays:
    """:meth:`Task.run` of a task that needs one forward pass."""
    return forward(runner, batch)


def pipeline_case(samples: Sequence[Sample], *, cache: bool) -> Case:
    """What ``pipeline()`` does with samples: as the generation config says, with a cache if there is one."""
    return Case("pipeline", tuple(samples), {"cache": cache})


def samples_of(task: Task, model: ModelFolder) -> list[Sample]:
    """The samples that the folder brings, or the task's own; files of media under their whole paths."""
    brought = [resolve_media_paths(model.path, entry["inputs"]) for entry in model.samples]
    return brought or task.samples(model)


def top_k_labels(names: Sequence[str], scores: Array, top_k: int | None) -> list[dict[str, Any]]:
    """The best names with their scores; None: all.

    >>> ranked(["a", "b"], np.array([0.25, 0.75]), 1)
    [{'label': 'b', 'score': 0.75}]
    """
    order = np.argsort(-scores, kind="stable").tolist()
    return [{"label": names[index], "score": float(scores[index])} for index in order][:top_k]


def argmax_margins(scores: Array) -> Array:
    """Half the distance of the two largest along the last axis: no smaller error can swap them.

    >>> argmax_margins(np.array([[1.0, 4.0, 3.5], [0.0, 2.0, -9.0]])).tolist()
    [0.25, 1.0]
    """
    top = np.sort(scores.astype(np.float64), axis=-1)[..., -2:]
    return np.asarray(
        (top[..., -1] - top[..., 0]) / 2 if top.shape[-1] > 1 else np.inf * top[..., 0]
    )


def take_cyclic(samples: Sequence[Sample], count: int) -> tuple[Sample, ...]:
    """The first ``count`` samples, from the start again when there are fewer."""
    return tuple(samples[index % len(samples)] for index in range(count))
