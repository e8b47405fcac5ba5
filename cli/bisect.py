"""``equipoise bisect``: finds the first module whose outputs diverge between two backends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output, _run, _validation, _worker_options
from equipoise.cli._completion import complete_backends
from equipoise.cli._types import PathName, SourceName
from equipoise.cli.validate import exit_code

if TYPE_CHECKING:
    from equipoise.validators.judgement.results import BackendResult


@click.command()
@click.argument("model", type=SourceName())
@click.argument("artifacts", nargs=-1, type=PathName())
@click.option(
    "--backends",
    shell_complete=complete_backends,
    help="Backends to compare with PyTorch, separated by commas: tensorflow, flax.",
)
@_validation.task_option
@_validation.precision_option
@click.option("--case", "case", help="The case to examine; default: the first that diverges.")
@click.option(
    "--repro",
    type=PathName(),
    help="Folder for a minimal script that reproduces it.",
)
@_run.json_option
@_worker_options.worker_options
@_run.handle_errors
def command(
    model: str,
    artifacts: tuple[Path, ...],
    backends: str | None,
    task: str | None,
    precision: str,
    case: str | None,
    repro: Path | None,
    as_json: bool,
    workers: _worker_options.WorkerOptions,
) -> int:
    """Show the error of every module of MODEL on each backend or ARTIFACT, and where it is first beyond noise.

    Exit code 1: a module or an output is beyond noise; 3: a backend failed, or none was compared; 2: bad input.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.validators.core.precision import PRECISIONS
    from equipoise.validators.core.request import Request
    from equipoise.validators.judgement.results import to_json_value
    from equipoise.validators.validate import validate

    names = [name.strip() for name in backends.split(",")] if backends else None
    with (
        workers.pool() as pool,
        _worker_options.status_line() as tell,
    ):
        found = validate(
            Request(
                model=resolve_source(model),
                artifacts=artifacts,
                backends=[name for name in names if name != "pytorch"] if names else None,
                task=task,
                device=workers.device,
                precision=PRECISIONS[precision],
                cases=[case] if case else None,
                threads=workers.threads,
                depth=True,
                repro=repro,
                progress=tell,
            ),
            pool,
        )
    if as_json:
        _run.print_json([to_json_value(result) for result in found.backends])
    else:
        for result in found.backends:
            _show(result)
    if any(is_beyond_noise(result) for result in found.backends):
        return _run.EXIT_DIFFERENCE
    return exit_code(found, strict=True)


def is_beyond_noise(result: BackendResult) -> bool:
    """Checks whether a module or an output of a backend is beyond noise, even if its verdict is a good one.

    A quantized program is rounded on purpose, in every module: there the verdict alone counts.
    """
    if result.quantized:
        return False
    return result.divergence is not None or any(point.beyond for point in result.depth)


def _show(result: BackendResult) -> None:
    from equipoise.validators.judgement.results import WHOLE_MODEL
    from equipoise.validators.report.summary import (
        describe_divergence,
        format_number,
        format_ratio,
    )

    _output.echo(f"{result.label}: {result.absent or result.failure or result.verdict.value}")
    rows: list[list[Any]] = [
        [
            point.path or WHOLE_MODEL,
            format_number(point.error),
            format_number(point.noise),
            f"{format_ratio(point.ratio)}{' beyond noise' if point.beyond else ''}",
        ]
        for point in result.depth
    ]
    if rows:
        _output.print_table(("module", "error", "noise", "ratio"), rows)
    for note in result.notes:
        _output.echo(f"- {note}")
    if result.divergence is not None:
        _output.echo(describe_divergence(result))
