"""Shared by the commands that run models: options, worker processes, reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from equipoise.cli._types import NameValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from equipoise.validators.workers import Workers

EXIT_BACKEND_FAILED = 3
"""Exit code: a backend failed."""

F = TypeVar("F", bound=Callable[..., Any])

PRECISION = click.Choice(["fp32", "fp16", "bf16"])


def worker_options(command: F) -> F:
    """Decorates a command with the options of all commands that run models."""
    options = (
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1."),
        click.option(
            "--env",
            "environments",
            type=NameValue(),
            multiple=True,
            help="BACKEND=PYTHON: the interpreter (or named environment) of a backend; "
            "oracle=PYTHON for TensorFlow and Flax; repeatable.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(0),
            help="Threads of each framework; default: all cores.",
        ),
        click.option(
            "--time-limit",
            type=click.FloatRange(0, min_open=True),
            default=600.0,
            show_default=True,
            help="Largest number of seconds for one forward pass.",
        ),
        click.option(
            "--memory-limit",
            type=click.IntRange(1),
            help="Largest address space of each worker process in bytes.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def worker_pool(
    environments: Iterable[tuple[str, str]],
    time_limit: float | None,
    memory_limit: int | None,
    log: Path | None = None,
) -> Iterator[Workers]:
    """Starts the worker pool of a command; stops it at the end."""
    # Tokenizers run in this process; their warnings must not reach the terminal.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from equipoise.validators.workers import Workers

    with Workers(
        dict(environments), log=log, time_limit=time_limit, memory_limit=memory_limit
    ) as found:
        yield found


def split_names(text: str | None) -> list[str] | None:
    """Splits an option at commas; returns None if it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def thread_count(threads: int | None) -> int:
    """Returns the number of threads of a framework."""
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Shows the current task on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def write_report(path: Path, text: str) -> None:
    """Writes a report; ``-`` is stdout.

    Raises:
        OutputError: It cannot be written.
    """
    from equipoise.convert.core.errors import OutputError
    from equipoise.convert.core.output_folder import write_atomic

    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", file=path) from error
