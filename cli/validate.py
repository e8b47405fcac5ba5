"""``equipoise validate``: runs a model's task on every backend and compares the outputs with PyTorch's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from equipoise.cli import _output, _run, _validation, _worker_options
from equipoise.cli._completion import complete_backends
from equipoise.cli._types import PathName, SourceName

if TYPE_CHECKING:
    from equipoise.validators.core.tolerance import Tolerance
    from equipoise.validators.judgement.results import Report


@click.command()
@click.argument("model", type=SourceName())
@click.argument("artifacts", nargs=-1, type=PathName())
@click.option(
    "--backends",
    shell_complete=complete_backends,
    help="Backends, separated by commas: pytorch, tensorflow, flax, onnx ...",
)
@_validation.task_option
@_validation.precision_option
@_validation.tf32_option
@click.option("--samples", type=PathName(), help="A samples.json instead of the model's own.")
@click.option(
    "--max-samples", type=click.IntRange(1), help="Largest number of samples to run; default: all."
)
@click.option("--cases", help="Names of cases, separated by commas; default: all.")
@_validation.budget_option
@_validation.tolerance_options
@_validation.strict_option
@click.option(
    "--repro",
    type=PathName(),
    help="Folder for minimal scripts that reproduce divergences.",
)
@click.option("--report", type=PathName(), help="Write one self-contained HTML page.")
@click.option("--junit", type=PathName(), help="Write JUnit XML.")
@click.option("--json", "json_file", type=PathName(), help="Write JSON; - is stdout.")
@click.option("--save-golden", type=PathName(), help="Save PyTorch's outputs in this folder.")
@click.option(
    "--against-golden",
    type=PathName(),
    help="Compare with outputs of --save-golden; PyTorch is not needed.",
)
@_worker_options.worker_options
@_run.handle_errors
def command(
    model: str,
    artifacts: tuple[Path, ...],
    backends: str | None,
    task: str | None,
    precision: str,
    tf32: bool,
    samples: Path | None,
    max_samples: int | None,
    cases: str | None,
    budget: float | None,
    atol: float | None,
    rtol: float | None,
    strict: bool,
    repro: Path | None,
    report: Path | None,
    junit: Path | None,
    json_file: Path | None,
    save_golden: Path | None,
    against_golden: Path | None,
    workers: _worker_options.WorkerOptions,
) -> int:
    """Run the task of MODEL on every backend and compare the outputs with PyTorch's.

    ARTIFACTS are programs (ONNX, TorchScript, .pt2, SavedModel, program.jax) or checkpoints of the same model.
    Exit code 1: a backend diverged or is decision-safe; 3: a backend failed, or none was compared; 2: bad input.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.validators.core.precision import PRECISIONS
    from equipoise.validators.core.request import Request
    from equipoise.validators.models.samples import read_samples
    from equipoise.validators.validate import validate

    _validation.check_reports(report, junit, json_file)
    with (
        workers.pool() as pool,
        _worker_options.status_line() as tell,
    ):
        folder = resolve_source(model)
        _validation.print_own_code_note(folder)
        found = validate(
            Request(
                model=folder,
                artifacts=artifacts,
                backends=_validation.split_names(backends),
                task=task,
                device=workers.device,
                precision=PRECISIONS[precision],
                tf32=tf32,
                samples=read_samples(samples) if samples else None,
                max_samples=max_samples,
                cases=_validation.split_names(cases),
                budget=budget,
                tolerance=override_tolerance(PRECISIONS[precision], atol, rtol),
                threads=workers.threads,
                depth=report is not None,
                repro=repro,
                save_golden=save_golden,
                against_golden=against_golden,
                progress=tell,
            ),
            pool,
        )
    _write(found, report, junit, json_file)
    if str(json_file) != "-":
        print_report(found)
    return exit_code(found, strict=strict)


def override_tolerance(
    precision: str, atol: float | None, rtol: float | None, *, fixed: bool = False
) -> Tolerance | None:
    """Returns the default tolerance with the user's atol and rtol; None to use the default.

    Args:
        precision: Key of the default tolerance.
        atol: Absolute tolerance in addition to the noise.
        rtol: The same as a fraction of the output's scale.
        fixed: Whether to return the tolerance even if it is the default, because it is not the one of the precision
            under test.
    """
    from equipoise.validators.core.tolerance import DEFAULTS

    if atol is None and rtol is None and not fixed:
        return None
    return replace(DEFAULTS[precision], atol=atol or 0.0, rtol=rtol or 0.0)


def _write(found: Report, report: Path | None, junit: Path | None, json_file: Path | None) -> None:
    from equipoise.validators.report import json_report
    from equipoise.validators.report import junit as junit_xml
    from equipoise.validators.report.html import page

    if report is not None:
        _validation.write_report(report, page.to_html(found))
    if junit is not None:
        _validation.write_report(junit, junit_xml.to_junit(found))
    if json_file is not None:
        _validation.write_report(json_file, json_report.to_json(found))


_COLORS = {
    "identical": "green",
    "within noise": "green",
    "decision-safe": "yellow",
    "diverged": "red",
    "failed": "red",
    "nothing compared": "yellow",
}
"""Verdict -> its colour on a terminal."""


def print_report(found: Report) -> None:
    """Prints the table of results and the remarks."""
    from equipoise.validators.report.summary import (
        head_lines,
        look_at,
        remarks,
        summary_rows,
        table_lines,
    )

    for line in head_lines(found):
        _output.echo(line)
    for line, verdict in table_lines(summary_rows(found)):
        _output.echo(line, colored=verdict, color=_COLORS.get(verdict))
    for remark in remarks(found):
        _output.echo(f"- {remark}")
    if first := look_at(found):
        _output.echo(first)
    overall = found.verdict.value
    _output.echo(f"verdict: {overall}", colored=overall, color=_COLORS.get(overall))


def exit_code(found: Report, *, strict: bool) -> int:
    """Returns 1 if a backend diverged (or, if strict, is decision-safe), 3 if one failed or none was compared, else 0.

    A quantized program is rounded on purpose: *decision-safe* is good enough for it.
    """
    from equipoise.validators.judgement.results import Verdict

    ran = [result for result in found.backends if not result.absent]
    for result in ran:
        is_safe = result.verdict is Verdict.DECISION_SAFE and strict and not result.quantized
        if result.verdict is Verdict.DIVERGED or is_safe:
            return _run.EXIT_DIFFERENCE
    failed = not ran or any(result.verdict is Verdict.FAILED for result in ran)
    return _run.EXIT_BACKEND_FAILED if failed else _run.EXIT_OK
