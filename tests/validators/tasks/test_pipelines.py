"""Tasks decode PyTorch's outputs to the results of ``pipeline()`` in transformers 4.57.6."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from pipeline_results import compare
from task_models import FIXTURES, GOLDENS, ROOT, folder, runner

from equipoise.validators.core.types import Case
from equipoise.validators.parameters.declarations import pipeline_of
from equipoise.validators.parameters.options import sort_options
from equipoise.validators.tasks.base import infer_task, load_samples, pipeline_case

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.filterwarnings("ignore"),
]

READ_DIFFERENTLY = {
    "translation-t5": "its samples contain the prefix, which the pipeline puts before a text"
}
"""Fixtures whose samples are no inputs of the pipeline."""

CHANGED_BY_PADDING = {
    "image-segmentation-panoptic": "its convolutions see the padding of smaller pictures"
}
"""Models whose results change with padding, in every framework."""


@pytest.mark.parametrize("name", GOLDENS)
def test_same_results_as_pipeline(name: str) -> None:
    golden = json.loads((ROOT / "pipelines" / f"{name}.json").read_text())
    if golden["why"] or name in READ_DIFFERENTLY:
        pytest.skip(golden["why"] or READ_DIFFERENTLY[name])
    model = folder(name)
    task = infer_task(model)
    for call in golden["calls"]:
        options = sort_options(task.name, call["options"])
        declared = pipeline_of(task.name)
        assert declared is not None
        for sample, wanted in zip(load_samples(task, model), call["results"], strict=True):
            case = pipeline_case(
                (sample,),
                cache="num_beams" in options.case,
                task=golden["task"],
                defaults=declared.defaults,
                options=options.case,
            )
            batch = task.encode(model, case)
            outputs = task.run(runner(name), model, batch)
            (found,) = task.decode(model, batch, outputs, **options.decode)
            compare(found, wanted, f"{name} {call['options']}")


@pytest.mark.parametrize("name", FIXTURES)
def test_batch_gives_the_answers_of_single_samples(name: str) -> None:
    """A sample gets the same answer in a padded batch as alone."""
    model = folder(name)
    task = infer_task(model)
    if name in CHANGED_BY_PADDING:
        pytest.skip(CHANGED_BY_PADDING[name])
    samples = load_samples(task, model)[:3]
    options = task.cases(model, samples)[0].options
    alone = []
    for sample in samples:
        batch = task.encode(model, Case("single", (sample,), options))
        alone += _strings(task.decode(model, batch, task.run(runner(name), model, batch))[0])
    try:
        batch = task.encode(model, Case("batch", tuple(samples), options))
    except ValueError as error:
        pytest.skip(str(error))
    together = task.decode(model, batch, task.run(runner(name), model, batch))
    assert [word for found in together for word in _strings(found)] == alone


def test_every_fixture_has_a_golden() -> None:
    assert set(FIXTURES) == set(GOLDENS)


def _strings(found: Any) -> Iterator[Any]:
    """Yields every string in a result."""
    if isinstance(found, dict):
        for key in sorted(found):
            yield from _strings(found[key])
    elif isinstance(found, list | tuple):
        for inner in found:
            yield from _strings(inner)
    elif isinstance(found, str):
        yield found
