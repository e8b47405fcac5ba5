"""The table of many validations: which models and programs there are, a row for each, its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.convert.files.ownership import FILE_MARK
from equipoise.validators.judgement.results import BackendResult, Report, Verdict
from equipoise.validators.models.sources import RIGHTS_NOTE, backend_names, resolve_artifact
from equipoise.validators.report.summary import first_line, remarks


@dataclass(frozen=True)
class ModelRow:
    """The row of one model.

    Attributes:
        name: Name of the model's folder.
        report: The report; None if the validation failed.
        error: Why it failed.
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
        """The verdict, or the first line of the error."""
        return self.report.verdict.value if self.report else first_line(self.error)

    def cell(self, backend: str) -> str:
        """Returns the verdict of a backend and its largest ratio of error to noise; a dash if the backend was not run."""
        if self.report is None:
            return "failed" if backend == "pytorch" else "-"
        if backend == "pytorch":
            return (
                "reference"
                if not _results_for(self.report, backend)
                else _cell_text(_results_for(self.report, backend))
            )
        return _cell_text(_results_for(self.report, backend))

    def remarks(self) -> list[str]:
        """Returns remarks to print below the table; that programs run code is not said again for each."""
        found = remarks(self.report) if self.report else [first_line(self.error)]
        return [remark for remark in found if RIGHTS_NOTE not in remark]


def _results_for(report: Report, backend: str) -> list[BackendResult]:
    return [result for result in report.backends if result.backend == backend]


def _cell_text(results: Sequence[BackendResult]) -> str:
    available = [result for result in results if not result.absent]
    if not available:
        return "-"
    result = max(available, key=lambda candidate: candidate.verdict.rank)
    ratios = [output.ratio or 0.0 for case in result.cases for output in case.outputs]
    noisy = result.verdict in (Verdict.WITHIN_NOISE, Verdict.DECISION_SAFE, Verdict.DIVERGED)
    return f"{result.verdict.value} {max(ratios):.1f}" if noisy and ratios else result.verdict.value


def model_folders(models: Sequence[Path]) -> list[Path]:
    """Returns the model folders among these, and those inside the others.

    Raises:
        InputError: There is none.
    """
    folders: list[Path] = []
    for path in models:
        subfolders = sorted(config.parent for config in path.glob("*/config.json"))
        folders += [path] if (path / "config.json").is_file() else subfolders
    if not folders:
        raise InputError(
            "there is no model", file=models[0] if models else None, expected="a config.json"
        )
    return folders


def find_programs(folder: Path) -> list[Path]:
    """Returns the programs in a folder."""
    programs = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            resolve_artifact(path)
        except EquipoiseError:
            continue
        programs.append(path)
    return programs


def backend_columns(rows: Sequence[ModelRow]) -> list[str]:
    """Returns the backends that occur, in the usual order."""
    occurring = {result.backend for row in rows if row.report for result in row.report.backends} | {
        "pytorch"
    }
    return [name for name in backend_names() if name in occurring]


def to_markdown(rows: Sequence[ModelRow]) -> str:
    """Returns the table as Markdown, with remarks below it."""
    names = backend_columns(rows)
    head = ["| model | task | class | " + " | ".join(names) + " |"]
    head.append("| --- " * (3 + len(names)) + "|")
    body = [
        "| "
        + " | ".join(
            [
                _as_cell(row.name),
                row.task,
                row.report.class_name if row.report else "",
                *(row.cell(name) for name in names),
            ]
        )
        + " |"
        for row in rows
    ]
    notes = [f"- {row.name}: {remark}" for row in rows for remark in row.remarks()]
    return "\n".join([f"<!-- {FILE_MARK} -->", *_heading(rows), *head, *body, "", *notes]) + "\n"


def _as_cell(text: str) -> str:
    """Returns a name that is no Markdown: folders may be called anything."""
    return re.sub(r"([|<`\\])", r"\\\1", " ".join(text.split()))


def _heading(rows: Sequence[ModelRow]) -> list[str]:
    """Returns the title with precision, device, date and versions."""
    reports = [row.report for row in rows if row.report]
    if not reports:
        return []
    first = reports[0]
    versions = {**first.machine["versions"], **first.reference.versions}
    for result in (result for report in reports for result in report.backends):
        versions = {**result.versions, **versions}
    shown = ("torch", "onnxruntime", "tensorflow", "jax", "flax", "transformers")
    version_text = ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
    return [
        "# Tasks and backends",
        "",
        "Generated by `equipoise matrix`. Each model was run on every case of its task. A cell is the worst verdict and",
        "the largest ratio of rms error to noise; a dash if the backend cannot run the model.",
        "",
        f"{first.precision} on {first.device}, {first.date[:10]}, {first.machine['processor']}, {version_text};",
        "TensorFlow and Flax classes are those of transformers 4.57.6.",
        "",
    ]
