"""``equipoise run``: runs a pipeline task on any backend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from equipoise.cli import _run, _validation, _worker_options
from equipoise.cli._completion import complete_backend, complete_task
from equipoise.cli._types import NameValue, PathName, SourceName


@click.command()
@click.argument("task", shell_complete=complete_task)
@click.argument("model", type=SourceName())
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--backend",
    shell_complete=complete_backend,
    help="pytorch, tensorflow, flax; a program's backend follows from its file.",
)
@click.option(
    "--companions",
    type=PathName(),
    help="The model's folder, for an artifact without its own config and tokenizer.",
)
@click.option(
    "--option",
    "options",
    type=NameValue(),
    multiple=True,
    help="A call option of the pipeline, e.g. top_k=3; repeatable; docs/run.md lists all.",
)
@click.option("--output", type=PathName(), help="Folder for result images.")
@_worker_options.worker_options
@_run.handle_errors
def command(
    task: str,
    model: str,
    inputs: tuple[str, ...],
    backend: str | None,
    companions: Path | None,
    options: tuple[tuple[str, str], ...],
    output: Path | None,
    workers: _worker_options.WorkerOptions,
) -> int:
    """Run TASK of MODEL (a model or an artifact) on INPUTS and print the result as JSON.

    INPUTS are texts or files. For samples with several parts (question and context, image and labels) give the parts
    in that order, as NAME=VALUE, or as one JSON object for each sample. Lists are separated by commas.
    """
    with (
        workers.pool() as pool,
        _worker_options.status_line(),
    ):
        from equipoise.convert.checkpoints.hub import resolve_source
        from equipoise.validators.pipeline import run_pipeline
        from equipoise.validators.pipeline_io import to_json

        results = run_pipeline(
            task,
            resolve_source(model),
            inputs,
            backend=backend,
            companions=companions,
            device=workers.device,
            workers=pool,
            options=_parse_options(options),
            threads=workers.threads,
            tell=_validation.print_note,
        )
        _run.print_json(to_json(results if len(results) > 1 else results[0], output))
    return _run.EXIT_OK


def _parse_options(given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Returns the options by name.

    Raises:
        InputError: One is given twice.
    """
    from equipoise.convert.core.errors import InputError

    found: dict[str, Any] = {}
    for name, value in given:
        if name in found:
            raise InputError(f"the option {name} is given twice", found=value)
        found[name] = _parse_option(value)
    return found


def _parse_option(text: str) -> Any:
    """Parses a JSON value; returns other texts unchanged."""
    try:
        return json.loads(text)
    except ValueError:
        return text
