"""What a task is: it owns what a model's inputs and outputs mean.

A task is one file in this folder that defines ``TASK``; its name is the file's, with hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from equipoise.validators.core.types import Array, Arrays, Runner
from equipoise.validators.models.folder import ModelFolder

Sample = Mapping[str, Any]
"""One sample under the names that ``pipeline()`` gives its inputs; media are paths or opened already."""


MEDIA = frozenset({"image", "images", "audio", "video", "frames"})
"""Names of samples' entries that are files."""


@dataclass(frozen=True)
class Case:
    """One way to call the model: which samples together, and how they are padded.

    Attributes:
        name: ``single``, ``batch``, ``padded``, ``long``, ``greedy-cache`` ...
        samples: The samples of the batch.
        options: What :meth:`Task.encode` and :meth:`Task.run` need to know, e.g. ``pad_to``, ``side``, ``beams``.
    """

    name: str
    samples: tuple[Sample, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Samples as arrays.

    Attributes:
        case: Where it comes from.
        arrays: The model's inputs by name.
        kwargs: Plain values for the model's forward.
        valid: For outputs by name: which leading entries mean something (bool, its axes are the leading
            axes of the output). Outputs that are not named count as a whole.
        context: What decoding needs: offsets, sizes, words.
    """

    case: Case
    arrays: Arrays
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    valid: Mapping[str, Array] = field(default_factory=dict)
    context: Any = None


@dataclass(frozen=True)
class Decision:
    """Something that a person reads off an output, and how far the output may move before it flips.

    Attributes:
        name: What is decided: ``label``, ``token 3``, ``span``.
        value: The decision as plain data.
        output: The output it was read from.
        rows: Index into that output (as for numpy) of what it was read from.
        margins: For every leading entry of ``output[rows]`` (its shape is a prefix of that shape): the
            largest absolute error of any element under which the decision stands. For an argmax that is
            half the distance of the two largest; for a threshold, the distance from it.
        allowance: The share of entries that may exceed their margin (pixels at the rim of a mask).
    """

    name: str
    value: Any
    output: str
    rows: Any
    margins: Array
    allowance: float = 0.0


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


def one_forward(
    self: object, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
) -> Arrays:
    """:meth:`Task.run` of a task that needs one forward pass."""
    return forward(runner, batch)


def plain_case(samples: Sequence[Sample], *, cache: bool) -> Case:
    """What ``pipeline()`` does with samples: as the generation config says, with a cache if there is one."""
    return Case("pipeline", tuple(samples), {"cache": cache})


def samples_of(task: Task, model: ModelFolder) -> list[Sample]:
    """The samples that the folder brings, or the task's own; files of media under their whole paths."""
    brought = [resolved(model.path, entry["inputs"]) for entry in model.samples]
    return brought or task.samples(model)


def resolved(folder: Path, value: Any, name: str = "") -> Any:
    """A sample with its files of media under their whole paths; names are relative to ``folder``."""
    if isinstance(value, Mapping):
        return {key: resolved(folder, inner, key) for key, inner in value.items()}
    if name in MEDIA and isinstance(value, list):
        return [resolved(folder, inner, name) for inner in value]
    if name in MEDIA and isinstance(value, str):
        return str(folder / value)
    return value


def ranked(names: Sequence[str], scores: Array, top_k: int | None) -> list[dict[str, Any]]:
    """The best names with their scores; None: all.

    >>> ranked(["a", "b"], np.array([0.25, 0.75]), 1)
    [{'label': 'b', 'score': 0.75}]
    """
    order = np.argsort(-scores, kind="stable").tolist()
    return [{"label": names[index], "score": float(scores[index])} for index in order][:top_k]


def sigmoid(logits: Array) -> Array:
    """Probabilities of yes or no, computed in float64."""
    # exp(-log(1 + exp(-x))): large negative logits do not overflow.
    return np.asarray(np.exp(-np.logaddexp(0, -logits.astype(np.float64))))


def argmax_margins(scores: Array) -> Array:
    """Half the distance of the two largest along the last axis: no smaller error can swap them.

    >>> argmax_margins(np.array([[1.0, 4.0, 3.5], [0.0, 2.0, -9.0]])).tolist()
    [0.25, 1.0]
    """
    top = np.sort(scores.astype(np.float64), axis=-1)[..., -2:]
    return np.asarray(
        (top[..., -1] - top[..., 0]) / 2 if top.shape[-1] > 1 else np.inf * top[..., 0]
    )


def cycle(samples: Sequence[Sample], count: int) -> tuple[Sample, ...]:
    """The first ``count`` samples, from the start again when there are fewer."""
    return tuple(samples[index % len(samples)] for index in range(count))
