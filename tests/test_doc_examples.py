"""Tables in docs match the code, and examples run."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.core import plugins
from equipoise.validators import pytest_plugin
from equipoise.validators.core.precision import PRECISIONS
from equipoise.validators.core.request import Request
from equipoise.validators.core.tolerance import DEFAULTS, MODULE_TOLERANCE, REASONS, Tolerance
from equipoise.validators.core.types import Decision
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.judgement.verdict import judge_output
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.sources import backend_names
from equipoise.validators.report.html.tables import VERDICT_SIGNS
from equipoise.validators.tasks.base import TASKS, infer_task, task_names
from equipoise.validators.validate import validate

DOCS = Path(__file__).parents[1] / "docs"
BERT = Path(__file__).parents[1] / "fixtures" / "tasks" / "text-classification"
VALIDATE = (DOCS / "validate.md").read_text(encoding="utf-8")
SHOWN = ("fp32", "fp16", "bf16")


def tolerances() -> str:
    """Returns the table of tolerances."""
    rows = [f"| name | {' | '.join(SHOWN)} | reason |", "| --- | --- | --- | --- | --- |"]
    for name in (one.name for one in fields(Tolerance)):
        values = [f"{getattr(DEFAULTS[PRECISIONS[one]], name):g}" for one in SHOWN]
        rows.append(f"| `{name}` | {' | '.join(values)} | {REASONS[name]} |")
    return "\n".join(rows)


def blocks(text: str, language: str) -> list[str]:
    """Returns the code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_table_of_tolerances() -> None:
    assert tolerances() in VALIDATE


def test_factors_within_a_model() -> None:
    """The page states that the noise floor within a model is twice as large."""
    default = DEFAULTS["float32"]
    assert MODULE_TOLERANCE.floor == 2 * default.floor
    assert MODULE_TOLERANCE.rms_factor == default.rms_factor


def test_every_verdict_is_explained() -> None:
    shown = {"not run" if one is Verdict.ABSENT else one.value for one in Verdict}
    assert shown | {"reference"} == set(VERDICT_SIGNS)
    for verdict, sign in VERDICT_SIGNS.items():
        if verdict != "reference":
            assert f"| `{sign}` | {verdict} | " in VALIDATE


@pytest.mark.parametrize(
    ("error", "margin", "verdict", "ratio"),
    [
        (8e-7, 1e-6, Verdict.WITHIN_NOISE, 4),
        (4e-5, 1e-3, Verdict.DECISION_SAFE, 200),
        (4e-5, 1e-5, Verdict.DIVERGED, 200),
    ],
)
def test_example_of_the_noise_rule(
    error: float, margin: float, verdict: Verdict, ratio: float
) -> None:
    """The example in docs/validate.md gives the stated result."""
    assert all(
        text in VALIDATE for text in ("2e-7", f"{error:.0e}".replace("e-0", "e-"), str(ratio))
    )
    truth = np.where(np.arange(64) % 2, 1.0, -1.0).reshape(32, 2)
    label = Decision("label", "positive", "logits", slice(None), np.full(32, margin))
    found = judge_output(
        "logits",
        truth + error,
        truth + 2e-7,
        truth,
        valid=None,
        precision="float32",
        tolerance=DEFAULTS["float32"],
        decisions=[label],
    )
    assert found.verdict is verdict
    assert found.ratio == pytest.approx(ratio)


def test_pages_contain_no_local_paths() -> None:
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/(tmp|home|root|work)/", text), page


def test_options_of_the_plugin() -> None:
    text = (DOCS / "ci.md").read_text(encoding="utf-8")
    source = Path(pytest_plugin.__file__).read_text(encoding="utf-8")
    options = set(re.findall(r'"(--equipoise-[a-z]+)"', source))
    assert options == set(re.findall(r"--equipoise-[a-z]+", text)) != set()
    arguments = set(pytest_plugin.Parity.__call__.__annotations__) - {"return", "model"}
    assert [name for name in arguments if name not in text] == []


@pytest.mark.transformers
@pytest.mark.slow
def test_example_backend_and_task_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    backend, task = blocks(VALIDATE, "python")
    (tmp_path / "my_backend.py").write_text(backend)
    (tmp_path / "my_task.py").write_text(task)
    monkeypatch.syspath_prepend(tmp_path)

    point = EntryPoint("toxicity", "my_task:TASK", "equipoise.tasks")
    found = {point.name: point}
    monkeypatch.setattr(
        plugins, "_entry_points", lambda group: found if group == TASKS.group else {}
    )
    mine = str(tmp_path / "my_backend.py")
    report = validate(Request(BERT, backends=[mine], task="toxicity", cases=["single", "batch"]))
    (result,) = report.backends
    assert (report.task, result.label, result.failure) == ("toxicity", "my_backend", "")
    assert result.verdict in (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
    assert result.about["implementation"] == "mine"
    assert report.command.startswith("equipoise validate ")
    assert f"--backends {mine}" in report.command
    assert infer_task(ModelFolder(BERT)).name == "text-classification"


def test_the_matrix_has_every_fixture_and_task() -> None:
    """``make matrix`` writes the page; it is stale if a model or task is missing."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "tasks.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    head, _, *body = rows
    assert head[:4] == ["model", "task", "class", "pytorch"]
    assert set(head[4:]) == set(backend_names()) - {"pytorch"}
    assert [row[0] for row in body] == sorted(
        path.parent.name for path in BERT.parent.glob("*/samples.json")
    )
    assert {row[1] for row in body} == set(task_names())
    assert all(row[3] == "reference" for row in body)
