"""All samples are run, in batches; a limit is told; the report lists them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.validators.evaluation.further_cases import all_cases, further_cases
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task, load_samples

pytestmark = pytest.mark.transformers
FOLDER = Path(__file__).parents[3] / "fixtures" / "tasks" / "text-classification"
TEXTS = ["a fine film", "dull", "I liked it", "never again", "wonderful", "boring", "great", "odd"]
SAMPLES = [{"text": text} for text in TEXTS]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {}),
        (3, {}),
        (4, {"samples 4": (3,)}),
        (8, {"samples 4-6": (3, 4, 5), "samples 7-8": (6, 7)}),
    ],
)
def test_every_sample_is_in_a_case(count: int, expected: dict[str, tuple[int, ...]]) -> None:
    model = ModelFolder(FOLDER)
    cases = further_cases(infer_task(model), model, SAMPLES[:count])
    found = {case.name: {sample["text"] for sample in case.samples} for case in cases}
    assert found == {name: {TEXTS[index] for index in one} for name, one in expected.items()}


@pytest.mark.parametrize(
    "name", ["mask-generation", "text-to-audio", "summarization", "video-classification"]
)
def test_every_task_runs_all_samples(name: str) -> None:
    model = ModelFolder(FOLDER.parent / name)
    task = infer_task(model)
    own = list(load_samples(task, model))
    samples = [{**own[index % len(own)], "number": index} for index in range(5)]
    cases = all_cases(task, model, samples)
    assert {one["number"] for case in cases for one in case.samples} == {0, 1, 2, 3, 4}
    assert len({case.name for case in cases}) == len(cases)


def test_the_samples_of_the_folder_are_the_default() -> None:
    model = ModelFolder(FOLDER)
    own = json.loads((FOLDER / "samples.json").read_text())
    assert load_samples(infer_task(model), model) == [one["inputs"] for one in own]
    pictures = ModelFolder(FOLDER.parent / "image-classification")
    for sample in load_samples(infer_task(pictures), pictures):
        assert Path(sample["image"]).is_relative_to(pictures.path)
        assert Path(sample["image"]).is_file()


@pytest.mark.slow
def test_the_report_lists_all_samples(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "samples.json"
    file.write_text(json.dumps([{"inputs": sample} for sample in SAMPLES]))
    options = ("--samples", file, "--backends", "torchscript", "--threads", 1)
    found = {}
    for limit in (None, 4):
        report = tmp_path / f"{limit}.json"
        more = () if limit is None else ("--max-samples", limit)
        assert cli("validate", FOLDER, *options, *more, "--json", report).code == 0
        found[limit] = json.loads(report.read_text())
    texts = {
        limit: {sample["text"] for sample in values["samples"]} for limit, values in found.items()
    }
    assert set(TEXTS) <= texts[None]
    assert not set(TEXTS[4:]) & texts[4]
    names = {case["case"] for case in found[None]["backends"][0]["cases"]}
    assert {"samples 4-6", "samples 7-8"} <= names
    assert "--max-samples 4" in found[4]["command"]
