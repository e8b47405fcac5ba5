"""Validates many models as jobs of a fleet and gives the rows of their table; a run that was killed goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.job_list import make_job
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.core.unfinished import unfinished_run
from equipoise.fleet.drive import Fleet, run_fleet
from equipoise.fleet.running.job_runner import RunSettings
from equipoise.fleet.running.outcomes import REPORT
from equipoise.validators.core.request import Progress
from equipoise.validators.matrix import ModelRow, find_programs, model_folders
from equipoise.validators.report.json_report import from_json
from equipoise.validators.runtime.interpreters import cache_folder


@dataclass(frozen=True)
class Matrix:
    """What to validate, and how.

    Attributes:
        models: Folders of models, or folders that contain such folders.
        arguments: Options of ``validate`` for all models, as on its command line.
        artifacts: A folder with a subfolder of programs for each model.
        workers: How many models are validated at once.
    """

    models: Sequence[Path]
    arguments: Sequence[str] = ()
    artifacts: Path | None = None
    workers: int = 1


@contextmanager
def validate_models(
    matrix: Matrix, progress: Progress, tell: Callable[[ModelRow], None]
) -> Iterator[list[ModelRow]]:
    """Validates the models and yields their rows, in the order of the models.

    Until the context ends without an error, the rows are kept in the user's cache, and the same matrix does not validate again what it
    has validated.

    Args:
        matrix: What to validate.
        progress: Called with a description of each step.
        tell: Called with each row as it is there.

    Raises:
        InputError: There is no model, or no program where some are named.
    """
    jobs = [_job(matrix, folder) for folder in model_folders(matrix.models)]
    _check_artifacts(matrix, jobs)
    with unfinished_run(cache_folder() / "matrix", jobs) as results:
        rows: dict[str, ModelRow] = {}

        def add(result: dict[str, Any]) -> None:
            if result["key"] not in rows:
                rows[result["key"]] = _row(result, results)
                tell(rows[result["key"]])

        store = ResultStore.create(results)
        for job in jobs:
            if store.is_done(job.key):
                add(store.read(job.key))
        settings = RunSettings(
            results, tell=lambda job, text: progress(f"{Path(job.source).name}: {text}")
        )
        distinct = list({job.key: job for job in jobs}.values())
        run_fleet(Fleet(distinct, settings, workers=matrix.workers), lambda result, *_: add(result))
        yield [rows[job.key] for job in jobs]


def _job(matrix: Matrix, folder: Path) -> Job:
    programs = find_programs(matrix.artifacts / folder.name) if matrix.artifacts else []
    paths = [os.fspath(path) for path in programs]
    return make_job("validate", os.fspath(folder), paths, matrix.arguments)


def _check_artifacts(matrix: Matrix, jobs: Sequence[Job]) -> None:
    """Checks that the folder of programs has some for a model.

    Raises:
        InputError: It has none.
    """
    found = any(len(job.arguments) > len(matrix.arguments) for job in jobs)
    if matrix.artifacts is not None and not found:
        raise InputError(
            "no programs for any of the models",
            file=matrix.artifacts,
            expected=f"a folder with programs for each model, e.g. {Path(jobs[0].source).name}/",
        )


def _row(result: dict[str, Any], results: Path) -> ModelRow:
    """Returns the row of a job's result, with the whole report."""
    name = Path(result["source"]).name
    if result["error"] is not None:
        return ModelRow(name, None, result["error"]["message"])
    text = (results / result["output"] / REPORT).read_text(encoding="utf-8")
    return ModelRow(name, from_json(text))
