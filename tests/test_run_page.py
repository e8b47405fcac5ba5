"""docs/run.md is what ``tools/run_page.py`` writes, and the declared parameters are whole."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.core.plugins import load_file
from equipoise.validators.parameters.declarations import (
    declared_tasks,
    generation_fields,
    pipeline_of,
    whisper_fields,
)
from equipoise.validators.tasks.base import task_names

ROOT = Path(__file__).parents[1]
EFFECTS = {"encode", "decode", "used", "none", "refused"}


def test_page_is_up_to_date() -> None:
    page = load_file(ROOT / "tools" / "run_page.py")
    assert page.PAGE.read_text(encoding="utf-8") == page.render()


def test_every_task_is_declared() -> None:
    assert sorted(declared_tasks()) == task_names()


def test_every_parameter_says_what_it_does() -> None:
    pipelines = [pipeline_of(task) for task in declared_tasks()]
    tables = [one.parameters for one in pipelines if one is not None]
    for table in (*tables, generation_fields(), whisper_fields()):
        for parameter in table.values():
            assert parameter.effect in EFFECTS
            assert parameter.about
