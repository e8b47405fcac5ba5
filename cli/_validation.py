"""Shared by the commands that run models: options, worker processes, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from equipoise.cli import _output
from equipoise.cli._completion import complete_task
from equipoise.cli._types import Duration

F = TypeVar("F", bound=Callable[..., Any])

PRECISION = click.Choice(["fp32", "fp16", "bf16"])


precision_option = click.option(
    "--precision",
    type=PRECISION,
    default="fp32",
    show_default=True,
    help="The floating-point dtype under test.",
)
tf32_option = click.option(
    "--tf32", is_flag=True, help="Let CUDA round float32 products to TensorFloat-32."
)
strict_option = click.option(
    "--strict/--no-strict",
    default=True,
    help="Exit 1 on the verdict decision-safe too; default: yes, except for quantized programs.",
)
task_option = click.option(
    "--task",
    shell_complete=complete_task,
    help="A pipeline task; default: the task of the model's class.",
)


budget_option = click.option(
    "--budget",
    type=Duration(),
    help="Time for the validation, e.g. 120s or 5m: cases that do not fit are left out and named.",
)


def tolerance_options(command: F) -> F:
    """Decorates a command with ``--atol`` and ``--rtol``."""
    command = click.option(
        "--rtol",
        type=click.FloatRange(0),
        help="Relative tolerance, as a fraction of the output's scale.",
    )(command)
    return click.option(
        "--atol", type=click.FloatRange(0), help="Absolute tolerance in addition to the noise."
    )(command)


def split_names(text: str | None) -> list[str] | None:
    """Splits an option at commas; returns None if it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def write_report(path: Path, text: str) -> None:
    """Writes a report; ``-`` is stdout.

    Raises:
        OutputError: It cannot be written, or would replace a file of the user.
    """
    from equipoise.convert.files.output_file import write_output_file

    if str(path) == "-":
        with _output.printing():
            click.echo(text, nl=False)
    else:
        write_output_file(path, text)


def print_note(text: str) -> None:
    """Prints a note on stderr, where it is no part of a result."""
    _output.echo(f"note: {text}", err=True)


def print_own_code_note(model: Path) -> None:
    """Prints a note if a model's folder brings code, which is not run."""
    from equipoise.validators.models.folder import ModelFolder

    if note := ModelFolder(model).own_code_note:
        print_note(note)


def check_reports(*paths: Path | None) -> None:
    """Checks before any work that the reports of a command would replace no file of the user.

    Raises:
        OutputError: One would.
    """
    from equipoise.convert.files.ownership import check_replaceable_file

    for path in paths:
        if path is not None and str(path) != "-":
            check_replaceable_file(path)
