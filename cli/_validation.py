"""Shared by the commands that run models: options, worker processes, reports."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from equipoise.cli import _output
from equipoise.cli._completion import complete_task
from equipoise.cli._types import Duration, NameValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from equipoise.validators.runtime.process import WorkerPool

SECONDS_BETWEEN_LINES = 10
"""How often progress is printed where stderr is no terminal."""

F = TypeVar("F", bound=Callable[..., Any])

PRECISION = click.Choice(["fp32", "fp16", "bf16"])


def _check_device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is not cpu, cuda or cuda:N")
    return value


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


@dataclass(frozen=True)
class WorkerOptions:
    """Options of the worker processes of a command.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        environments: Pairs of a backend and its interpreter.
        threads: Threads of each framework.
        time_limit: Largest number of seconds for one forward pass.
        memory_limit: Largest address space of each process in bytes; None for no limit.
    """

    device: str
    environments: tuple[tuple[str, str], ...]
    threads: int
    time_limit: float
    memory_limit: int | None

    @contextmanager
    def pool(self) -> Iterator[WorkerPool]:
        """Yields the worker pool of a command: the caller's, unless options ask for another. Stops its own at the end."""
        # Tokenizers run in this process; their warnings must not reach the terminal.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from equipoise.validators.runtime.interpreters import resolve_interpreter
        from equipoise.validators.runtime.process import WorkerPool

        for _, interpreter in self.environments:
            resolve_interpreter(interpreter)
        shared = click.get_current_context().find_root().obj
        if isinstance(shared, WorkerPool) and not (self.environments or self.memory_limit):
            yield shared
            return
        with WorkerPool(
            dict(self.environments), time_limit=self.time_limit, memory_limit=self.memory_limit
        ) as found:
            yield found


def worker_options(command: Callable[..., int]) -> Callable[..., int]:
    """Decorates a command with the options of all commands that run models; it gets them as ``workers``."""

    @wraps(command)
    def wrapper(
        *args: Any,
        device: str,
        environments: tuple[tuple[str, str], ...],
        threads: int | None,
        time_limit: float,
        memory_limit: int | None,
        **kwargs: Any,
    ) -> int:
        options = WorkerOptions(
            device, environments, _thread_count(threads), time_limit, memory_limit
        )
        return command(*args, workers=options, **kwargs)

    options = (
        click.option(
            "--device",
            default="cpu",
            show_default=True,
            callback=_check_device,
            help="cpu, cuda or cuda:1.",
        ),
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
    decorated: Callable[..., int] = wrapper
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def split_names(text: str | None) -> list[str] | None:
    """Splits an option at commas; returns None if it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _thread_count(threads: int | None) -> int:
    """Returns the number of threads of a framework."""
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Shows the current task on stderr: as a line that changes on a terminal, else as a line every ten seconds at most."""
    if not sys.stderr.isatty():
        yield _throttled_lines()
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _throttled_lines() -> Callable[[str], None]:
    """Returns a function that prints a text on stderr if nothing was printed for ten seconds."""
    from time import monotonic

    printed = monotonic()

    def tell(text: str) -> None:
        nonlocal printed
        if monotonic() - printed >= SECONDS_BETWEEN_LINES:
            printed = monotonic()
            _output.echo(f"... {text}", err=True)

    return tell


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
