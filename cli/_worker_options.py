"""Worker processes of the commands that run models: their options, how they stay warm, what they are doing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output
from equipoise.cli._types import NameValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from equipoise.validators.runtime.process import WorkerPool

SECONDS_BETWEEN_LINES = 10
"""How often progress is printed where stderr is no terminal."""


def _check_device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is not cpu, cuda or cuda:N")
    return value


class WarmPools:
    """The worker processes of one command line after another: they stay warm while commands ask for the same.

    Attributes:
        tell: Called with a description of each step of a command; None shows it on stderr.
    """

    def __init__(self) -> None:
        self.tell: Callable[[str], None] | None = None
        self._options: WorkerOptions | None = None
        self._pool: WorkerPool | None = None

    def get(self, options: WorkerOptions) -> WorkerPool:
        """Returns the pool of a command; that of the command before it where the options of processes are equal."""
        wanted = replace(options, device="", given_threads=None)
        if self._pool is None or self._options != wanted:
            self.close()
            self._options, self._pool = wanted, options.make_pool()
        return self._pool

    def close(self) -> None:
        """Ends all processes."""
        if self._pool is not None:
            self._pool.close()


@dataclass(frozen=True)
class WorkerOptions:
    """Options of the worker processes of a command.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        environments: Pairs of a backend and its interpreter.
        given_threads: Threads of each framework; None: as many as there are cores.
        time_limit: Largest number of seconds for one forward pass.
        memory_limit: Largest address space of each process in bytes; None for no limit.
    """

    device: str
    environments: tuple[tuple[str, str], ...]
    given_threads: int | None
    time_limit: float
    memory_limit: int | None

    @property
    def threads(self) -> int:
        """Threads of each framework; 0 keeps its default."""
        return _core_count() if self.given_threads is None else self.given_threads

    @contextmanager
    def pool(self) -> Iterator[WorkerPool]:
        """Yields the worker pool of a command: the caller's, unless options ask for another. Stops its own at the end."""
        # Tokenizers run in this process; their warnings must not reach the terminal.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from equipoise.validators.runtime.process import WorkerPool

        self.check_interpreters()
        shared = click.get_current_context().find_root().obj
        if isinstance(shared, WarmPools):
            yield shared.get(self)
        elif isinstance(shared, WorkerPool) and not (self.environments or self.memory_limit):
            yield shared
        else:
            with self.make_pool() as found:
                yield found

    def make_pool(self) -> WorkerPool:
        """Returns new worker processes with these options."""
        from equipoise.validators.runtime.process import WorkerPool

        return WorkerPool(
            dict(self.environments), time_limit=self.time_limit, memory_limit=self.memory_limit
        )

    def check_interpreters(self) -> None:
        """Checks that the interpreters of ``--env`` are there.

        Raises:
            InputError: One is not.
        """
        from equipoise.validators.runtime.interpreters import resolve_interpreter

        for _, interpreter in self.environments:
            resolve_interpreter(interpreter)

    def as_arguments(self) -> list[str]:
        """Returns the options as they are typed."""
        threads = () if self.given_threads is None else ("--threads", str(self.given_threads))
        return [
            *threads,
            *("--device", self.device),
            *(word for pair in self.environments for word in ("--env", "=".join(pair))),
            *("--time-limit", str(self.time_limit)),
            *(("--memory-limit", str(self.memory_limit)) if self.memory_limit else ()),
        ]


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
        options = WorkerOptions(device, environments, threads, time_limit, memory_limit)
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


def _core_count() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Shows the current task on stderr: as a line that changes on a terminal, else as a line every ten seconds at most.

    Where the command runs for a fleet, the fleet is told instead.
    """
    context = click.get_current_context(silent=True)
    shared = context.find_root().obj if context else None
    if isinstance(shared, WarmPools) and shared.tell is not None:
        yield shared.tell
        return
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
