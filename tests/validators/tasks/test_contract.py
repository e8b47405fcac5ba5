"""Every task fulfils the contract of tasks, on all trained fixtures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from task_models import FIXTURES, ROOT, folder, runner

from equipoise.convert.core.errors import InputError
from equipoise.validators import tasks
from equipoise.validators.core.types import Arrays, Batch, Decision
from equipoise.validators.models.auto_classes import class_names_by_type, pytorch_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Task, find_task, infer_task, load_samples, task_names

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

PIPELINES = 26
"""Tasks of transformers 4.57.6's pipelines, without aliases and options of these,
and without image-to-image, keypoint-matching and zero-shot-object-detection.
"""


RESOLUTIONS = ("boxes", "depth", "audio")
"""Decisions that are measurements: below the margin they change invisibly."""


def test_all_are_found() -> None:
    assert len(task_names()) == PIPELINES
    for name in task_names():
        task = find_task(name)
        assert task.name == name
        assert class_names_by_type(task.auto_class), task.auto_class
        for alias in task.aliases:
            assert find_task(alias) is task


def test_aliases_are_unique() -> None:
    names = [name for task in map(find_task, task_names()) for name in (task.name, *task.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["translation_en_to_de", "translation_fr_to_en"])
def test_names_of_translations(name: str) -> None:
    assert find_task(name).name == "translation"


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="no such task"):
        find_task("translation_en_de")


@pytest.mark.parametrize("name", FIXTURES)
def test_one_task_fits(name: str) -> None:
    task = infer_task(folder(name))
    assert name.startswith(task.name)
    assert pytorch_class(folder(name), task) == folder(name).class_name


@pytest.mark.parametrize("name", FIXTURES)
def test_class_without_architectures(name: str) -> None:
    """Without ``architectures`` in the config, transformers' mapping gives a class of the same model."""
    model = ModelFolder(ROOT / "tasks" / name)
    task = infer_task(model)
    right = model.class_name
    model.config = {**model.config, "architectures": []}
    found = pytorch_class(model, task)
    if task.name == "automatic-speech-recognition":
        assert found in (
            right,
            class_names_by_type("AutoModelForCTC").get(model.model_type, ("",))[0],
        )
    else:
        assert found == right


@pytest.mark.parametrize("own", [False, True], ids=["brought", "own"])
@pytest.mark.parametrize("name", FIXTURES)
def test_samples(name: str, own: bool) -> None:
    task, model = infer_task(folder(name)), folder(name)
    samples = task.samples(model) if own else load_samples(task, model)
    assert len(samples) >= 3
    assert len({_weight(sample) for sample in samples}) > 1, "all of one size"


@pytest.mark.parametrize("own", [False, True], ids=["brought", "own"])
@pytest.mark.parametrize("name", FIXTURES)
def test_cases(name: str, own: bool) -> None:
    """Every case is encoded, run and decoded to one result for each sample, with the declared shapes."""
    model = folder(name)
    task = infer_task(model)
    samples = task.samples(model) if own else load_samples(task, model)
    cases = task.cases(model, samples)
    assert len({case.name for case in cases}) == len(cases)
    assert {1, 3} <= {len(case.samples) for case in cases} or model.model_type == "donut"
    for case in cases:
        batch = task.encode(model, case)
        assert all(isinstance(value, np.ndarray) for value in batch.arrays.values())
        outputs = task.run(runner(name), model, batch)
        assert len(task.decode(model, batch, outputs)) == len(case.samples), case.name
        _check_valid(batch, outputs)
        decisions = task.decisions(model, batch, outputs)
        assert decisions or task.name.endswith("feature-extraction")
        for decision in decisions:
            _check_decision(decision, outputs)


@pytest.mark.parametrize("name", FIXTURES)
def test_decisions_follow_the_outputs(name: str) -> None:
    """Decisions are deterministic, and the reference agrees with itself."""
    model = folder(name)
    task = infer_task(model)
    batch = task.encode(model, task.cases(model, load_samples(task, model))[0])
    first = task.run(runner(name), model, batch)
    again = task.run(runner(name), model, batch, first)
    values = [decision.value for decision in task.decisions(model, batch, first)]
    assert [decision.value for decision in task.decisions(model, batch, again)] == values


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text-classification", {"label"}),
        ("text-generation", {"tokens"}),
        ("token-classification", {"labels"}),
        ("question-answering", {"start", "end"}),
        ("object-detection", {"objects", "boxes"}),
        ("image-segmentation-panoptic", {"queries", "masks"}),
        ("automatic-speech-recognition-ctc", {"frames"}),
    ],
)
def test_names_of_decisions(name: str, expected: set[str]) -> None:
    model = folder(name)
    task = infer_task(model)
    batch = task.encode(model, task.cases(model, load_samples(task, model))[0])
    found = task.decisions(model, batch, task.run(runner(name), model, batch))
    assert {decision.name for decision in found} == expected


@pytest.mark.parametrize("name", FIXTURES)
def test_margins_hold(name: str) -> None:
    """Errors below its margin do not change a decision."""
    model = folder(name)
    task = infer_task(model)
    if runner(name).model.can_generate():
        pytest.skip("see test_generation.py")
    case = task.cases(model, load_samples(task, model))[1]
    batch = task.encode(model, case)
    outputs = task.run(runner(name), model, batch)
    random = np.random.default_rng(0)
    for index, decision in enumerate(task.decisions(model, batch, outputs)):
        if decision.name in RESOLUTIONS or not np.size(decision.margins):
            continue
        for _ in range(5):
            moved = {key: value.astype(np.float64) for key, value in outputs.items()}
            read = moved[decision.output][decision.rows]
            margins = np.minimum(decision.margins, 1e3)
            margins = margins.reshape(margins.shape + (1,) * (read.ndim - margins.ndim))
            error = random.choice([-0.999, 0.999], read.shape) * margins
            moved[decision.output][decision.rows] = read + error
            again = task.decisions(model, batch, moved)[index]
            assert (again.name, again.value) == (decision.name, decision.value)


def test_needs_no_framework() -> None:
    """Importing a task imports neither torch nor any other optional dependency."""
    names = ", ".join(repr(name) for name in ("torch", "transformers", "PIL", "pandas"))
    code = (
        "import sys\n"
        "from equipoise.validators.tasks.base import find_task, task_names\n"
        "[find_task(name) for name in task_names()]\n"
        f"print([name for name in ({names}) if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_no_line_imports_torch() -> None:
    for path in Path(tasks.__file__).parent.glob("*.py"):
        assert "import torch" not in path.read_text(), path.name


def _check_valid(batch: Batch, outputs: Arrays) -> None:
    for name, valid in batch.valid.items():
        if name in outputs:
            assert valid.dtype == bool
            assert valid.shape == outputs[name].shape[: valid.ndim], (batch.case.name, name)
            assert valid.any()


def _check_decision(decision: Decision, outputs: Arrays) -> None:
    read = outputs[decision.output][decision.rows]
    margins = np.asarray(decision.margins)
    assert margins.shape == read.shape[: margins.ndim], decision.name
    assert not np.isnan(margins).any()
    assert (margins >= 0).all()
    assert 0 <= decision.allowance < 0.01
    assert _plain(decision.value)


def _plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, value)) and all(map(_plain, value.values()))
    return value is None or type(value) in (str, int, float, bool)


def _weight(sample: object) -> str:
    """Returns the total size of a sample."""
    return ",".join(_sizes(sample))


def _sizes(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _sizes(inner)
    elif isinstance(value, list):
        yield str(len(value))
        for inner in value:
            yield from _sizes(inner)
    elif isinstance(value, np.ndarray):
        yield str(value.shape)
    elif isinstance(value, str) and Path(value).is_file():
        yield str(Path(value).stat().st_size)
    else:
        yield str(len(str(value)))


def test_tasks_have_the_methods_that_a_validation_calls() -> None:
    methods = {name for name, value in vars(Task).items() if callable(value) and name[0] != "_"}
    assert methods - {"suits"} == {"samples", "cases", "encode", "run", "decode", "decisions"}


def test_tasks_satisfy_the_protocol() -> None:
    for name in task_names():
        task: Task = find_task(name)
        assert task.__doc__
