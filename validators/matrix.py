"""Many models on every backend: what stands in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.validators.forms import backend_names, form_of_artifact
from equipoise.validators.report.summary import first_line, remarks
from equipoise.validators.request import Progress, Request
from equipoise.validators.result import BackendResult, Report
from equipoise.validators.validate import validate
from equipoise.validators.verdict import Verdict
from equipoise.validators.workers import Workers


@dataclass(frozen=True)
class Line:
    """One model.

    Attributes:
        name: Its folder's name.
        report: What was found; None where the model could not be run at all.
        error: Why.
    """

    name: str
    report: Report | None
    error: str = ""

    @property
    def task(self) -> str:
        """The model's task."""
        return self.report.task if self.report else ""

    @property
    def summary(self) -> str:
        """The verdict in a word."""
        return self.report.verdict.value if self.report else first_line(self.error)

    def cell(self, backend: str) -> str:
        """What the table says of a backend: verdict and worst ratio, a dash where it has no form."""
        if self.report is None:
            return "failed" if backend == "pytorch" else "-"
        if backend == "pytorch":
            return (
                "reference" if not _of(self.report, backend) else _text(_of(self.report, backend))
            )
        return _text(_of(self.report, backend))

    def remarks(self) -> list[str]:
        """What the table has no place for."""
        return remarks(self.report) if self.report else [first_line(self.error)]


def _of(report: Report, backend: str) -> list[BackendResult]:
    return [result for result in report.backends if result.backend == backend]


def _text(results: Sequence[BackendResult]) -> str:
    ran = [result for result in results if not result.absent]
    if not ran:
        return "-"
    result = max(ran, key=lambda one: one.verdict.rank)
    ratios = [output.ratio or 0.0 for case in result.cases for output in case.outputs]
    noisy = result.verdict in (Verdict.WITHIN_NOISE, Verdict.DECISION_SAFE, Verdict.DIVERGED)
    return f"{result.verdict.value} {max(ratios):.1f}" if noisy and ratios else result.verdict.value


def lines(
    models: Sequence[Path],
    workers: Workers,
    *,
    artifacts: Path | None = None,
    progress: Progress = lambda text: None,
    **options: Any,
) -> Iterator[Line]:
    """Validates one model after the other.

    Args:
        models: Model folders, or folders of such.
        workers: The processes.
        artifacts: A folder with a folder of programs for each model.
        progress: Told what is at work.
        options: Further fields of :class:`Request`.

    Raises:
        InputError: There is no model.
    """

    def tell(name: str) -> Progress:
        return lambda text: progress(f"{name}: {text}")

    for folder in folders(models):
        programs = programs_of(artifacts / folder.name) if artifacts else []
        try:
            request = Request(
                folder,
                artifacts=programs,
                progress=tell(folder.name),
                **options,
            )
            yield Line(folder.name, validate(request, workers))
        except EquipoiseError as error:
            yield Line(folder.name, None, str(error))


def folders(models: Sequence[Path]) -> list[Path]:
    """The model folders among these, and in those that are none.

    Raises:
        InputError: There is none.
    """
    found: list[Path] = []
    for path in models:
        inside = sorted(one.parent for one in path.glob("*/config.json"))
        found += [path] if (path / "config.json").is_file() else inside
    if not found:
        raise InputError(
            "no model is there", file=models[0] if models else None, expected="a config.json"
        )
    return found


def programs_of(folder: Path) -> list[Path]:
    """The programs that lie in a folder."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            form_of_artifact(path)
        except EquipoiseError:
            continue
        found.append(path)
    return found


def columns(found: Sequence[Line]) -> list[str]:
    """The backends that occur, in the usual order."""
    have = {result.backend for line in found if line.report for result in line.report.backends} | {
        "pytorch"
    }
    return [name for name in backend_names() if name in have]


def page(found: Sequence[Line]) -> str:
    """The table as Markdown, with what it has no place for below it."""
    names = columns(found)
    head = ["| model | task | class | " + " | ".join(names) + " |"]
    head.append("| --- " * (3 + len(names)) + "|")
    body = [
        "| "
        + " | ".join(
            [
                line.name,
                line.task,
                line.report.class_name if line.report else "",
                *(line.cell(name) for name in names),
            ]
        )
        + " |"
        for line in found
    ]
    notes = [f"- {line.name}: {remark}" for line in found for remark in line.remarks()]
    return "\n".join([*_about(found), *head, *body, "", *notes]) + "\n"


def _about(found: Sequence[Line]) -> list[str]:
    """What was run, where and when."""
    reports = [line.report for line in found if line.report]
    if not reports:
        return []
    first = reports[0]
    versions = {**first.machine["versions"], **first.reference.versions}
    for result in (result for report in reports for result in report.backends):
        versions = {**result.versions, **versions}
    shown = ("torch", "onnxruntime", "tensorflow", "jax", "flax", "transformers")
    listed = ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
    return [
        "# Tasks and backends",
        "",
        "Written by `equipoise matrix`. Each model was run on every case of its task; a cell is the worst verdict and",
        "the largest ratio of rms error to the noise that it is held to, a dash where the model has no form for the backend.",
        "",
        f"{first.precision} on {first.device}, {first.date[:10]}, {first.machine['processor']}, {listed};",
        "TensorFlow and Flax classes are those of transformers 4.57.6.",
        "",
    ]
