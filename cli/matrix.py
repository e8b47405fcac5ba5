"""``equipoise matrix``: validates many models on every backend and prints one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output, _run, _validation, _worker_options
from equipoise.cli._types import PathName

if TYPE_CHECKING:
    from equipoise.validators.matrix import ModelRow


@click.command()
@click.argument("models", nargs=-1, required=True, type=PathName())
@click.option(
    "--artifacts",
    type=PathName(),
    help="A folder with one folder of programs for each model, named like the model.",
)
@_validation.precision_option
@_validation.tf32_option
@_validation.strict_option
@click.option("--markdown", type=PathName(), help="Write the table as a Markdown page.")
@click.option(
    "--json",
    "json_file",
    type=PathName(),
    help="Write every report as JSON; - is stdout.",
)
@click.option(
    "--workers",
    "at_once",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Models to validate at once; they share the cores.",
)
@_worker_options.worker_options
@_run.handle_errors
def command(
    models: tuple[Path, ...],
    artifacts: Path | None,
    precision: str,
    tf32: bool,
    strict: bool,
    markdown: Path | None,
    json_file: Path | None,
    at_once: int,
    workers: _worker_options.WorkerOptions,
) -> int:
    """Validate the task of each of MODELS on every backend and print one table of verdicts.

    A folder without config.json stands for the models in it. Exit codes are those of `validate`. Killed, the same command goes on where it was.
    """
    from equipoise.fleet.matrix import Matrix, validate_models
    from equipoise.validators.matrix import to_markdown

    _validation.check_reports(markdown, json_file)
    if str(markdown) == str(json_file) == "-":
        raise click.UsageError("--markdown and --json cannot both be stdout")
    workers.check_interpreters()
    arguments = ["--precision", precision, *(("--tf32",) if tf32 else ()), *workers.as_arguments()]
    with (
        _worker_options.status_line() as progress,
        validate_models(Matrix(models, arguments, artifacts, at_once), progress, _tell) as rows,
    ):
        if markdown is not None:
            _validation.write_report(markdown, to_markdown(rows))
        if json_file is not None:
            _validation.write_report(json_file, _json(rows))
        if str(json_file) != "-":
            _show(rows)
    return _code(rows, strict=strict)


def _tell(row: ModelRow) -> None:
    _output.echo(f"{row.name}: {row.summary}", err=True)


def _json(found: list[ModelRow]) -> str:
    import json

    from equipoise.validators.report import json_report as report_json

    values: list[Any] = [
        json.loads(report_json.to_json(line.report))
        if line.report
        else {"generator": "equipoise", "model": line.name, "error": line.error}
        for line in found
    ]
    return json.dumps(values, indent=2) + "\n"


def _show(found: list[ModelRow]) -> None:
    from equipoise.validators.matrix import backend_columns

    names = backend_columns(found)
    rows = [[line.name, line.task, *(line.cell(name) for name in names)] for line in found]
    _output.print_table(("model", "task", *names), rows)
    for line in found:
        for remark in line.remarks():
            _output.echo(f"- {line.name}: {remark}")


def _code(found: list[ModelRow], *, strict: bool) -> int:
    from equipoise.cli.validate import exit_code

    codes = {exit_code(line.report, strict=strict) for line in found if line.report}
    if any(line.error for line in found):
        codes.add(_run.EXIT_BACKEND_FAILED)
    return (
        _run.EXIT_DIFFERENCE if _run.EXIT_DIFFERENCE in codes else max(codes, default=_run.EXIT_OK)
    )
