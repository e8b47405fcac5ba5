"""Adds to the cases of a task a batch that is larger than any other, and all samples that its own cases do not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from equipoise.validators.core.types import Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import take_cyclic


class HasCases(Protocol):
    """What is needed of a task here."""

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the task's own cases."""
        ...


SAMPLES_OF_OWN_CASES = 3
"""How many samples the cases of a task hold (``take_cyclic(samples, 3)``)."""

LARGE_BATCH = 5
"""Rows of the largest batch: exporters trace programs with one, two or three."""


def all_cases(task: HasCases, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
    """Returns the task's own cases, a batch of five if they have none, and cases of the further samples."""
    own = task.cases(model, samples)
    return [*own, *large_batch(own), *further_cases(task, model, samples)]


def large_batch(cases: Sequence[Case]) -> list[Case]:
    """Returns the cases ``batch`` and ``batch-cache`` with five rows, if no case has as many; a generated text of few tokens.

    The rows of beams do not count: what all logits of a row have in common does not change their scores.
    """
    if max((len(case.samples) for case in cases), default=0) >= LARGE_BATCH:
        return []
    return [
        replace(
            case,
            name=case.name.replace("batch", f"batch-{LARGE_BATCH}"),
            samples=take_cyclic(case.samples, LARGE_BATCH),
            options={
                **case.options,
                **({"max_new_tokens": 3} if "num_beams" in case.options else {}),
            },
        )
        for case in cases
        if case.name in ("batch", "batch-cache")
    ]


def further_cases(task: HasCases, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
    """Returns cases of the samples beyond those that the task's own cases hold: in batches as large as its case ``batch``.

    Args:
        task: The task.
        model: The model.
        samples: All samples.
    """
    own = task.cases(model, samples[:SAMPLES_OF_OWN_CASES])
    kind = "batch" if any(case.name == "batch" for case in own) else own[0].name
    size = SAMPLES_OF_OWN_CASES if kind == "batch" else 1
    found = []
    for start in range(SAMPLES_OF_OWN_CASES, len(samples), size):
        chunk = samples[start : start + size]
        (case,) = (one for one in task.cases(model, chunk) if one.name == kind)
        numbers = f"{start + 1}-{start + len(chunk)}" if len(chunk) > 1 else str(start + 1)
        found.append(replace(case, name=f"samples {numbers}"))
    return found
