"""The command line ``equipoise``: finds the commands, one file each, and runs one.

Neither this module nor the top level of a command's module imports NumPy or ``equipoise.convert``, so that ``--help`` is
fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, NoReturn

import click

from equipoise.cli._examples import examples_of
from equipoise.cli._output import (
    discard_stream,
    echo,
    flush_streams,
    open_closed_streams,
    printing,
)
from equipoise.cli._run import (
    EXIT_BACKEND_FAILED,
    EXIT_BAD_INPUT,
    EXIT_CLOSED_PIPE,
    EXIT_DEFECT,
    EXIT_INTERRUPTED,
    as_equipoise_error,
    report_defect,
    report_error,
)
from equipoise.cli._total_time import TotalTimeOver, start_timer, timer_ended
from equipoise.cli._types import Duration

if TYPE_CHECKING:
    from equipoise.cli._worker_options import WarmPools
    from equipoise.validators.runtime.process import WorkerPool


SUMMARY_LENGTH = 300
"""Longest summary of a command in letters: the first sentence of its help text."""


class Commands(click.Group):
    """The commands are the modules of this package without an underscore; each holds ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, sorted."""
        names = (module.name for module in iter_modules([str(Path(__file__).parent)]))
        return sorted(name for name in names if name != "main" and not name.startswith("_"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments begin with; an unknown one is answered with the nearest."""
        name = args[0] if args else ""
        if args and not name.startswith("-") and self.get_command(ctx, name) is None:
            from equipoise.convert.core.hints import did_you_mean

            text = f"there is no command {name!r}"
            near = did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"{text}; {near}" if near else text)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"equipoise.cli.{cmd_name}").command
        found.epilog = examples_of(cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands with their summaries, whole and over as many lines as they need."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                rows.append((name, command.get_short_help_str(limit=SUMMARY_LENGTH)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        echo(f"equipoise {version('equipoise')}")
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option(
    "--total-time",
    type=Duration(),
    help="End the command after this time, e.g. 10m: exit code 3, and nothing half-written stays.",
)
def root(total_time: float | None) -> None:
    """Moves model weights between PyTorch, TensorFlow and Flax, and proves that nothing changed.

    Exit codes: 0 success; 1 a difference was found; 2 bad input or refused; 3 a backend failed, nothing was compared, or
    a time limit was exceeded; 70 a defect of Equipoise; 130 interrupted; 141 the reader of the output ended.
    """
    if total_time is not None:
        start_timer(total_time)


def run(arguments: Sequence[str], *, pool: WorkerPool | WarmPools | None = None) -> int:
    """Runs a command line; returns the exit code.

    Args:
        arguments: The arguments.
        pool: Worker processes to use where the arguments ask for none of their own; None starts and ends processes
            in each command. :class:`WarmPools` starts others only where options ask for others.
    """
    try:
        with timer_ended():
            code = root.main(
                list(arguments), prog_name="equipoise", standalone_mode=False, obj=pool
            )
    except TotalTimeOver as over:
        values = {"error": "LimitError", "message": str(over)}
        report_error(str(over), values, as_json="--json" in arguments)
        return EXIT_BACKEND_FAILED
    except click.Abort:  # raised by click for Ctrl-C and the end of input
        echo("interrupted; the same command resumes what it can", err=True)
        return EXIT_INTERRUPTED
    except SystemExit:  # raised by click where the reader of a help text ended
        discard_stream()
        return EXIT_CLOSED_PIPE
    except click.ClickException as error:
        _report_wrong_usage(error, as_json="--json" in arguments)
        return EXIT_BAD_INPUT
    except Exception as error:  # noqa: BLE001 - an answer about the files must not be read into it
        return _report_failure(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0


def _report_wrong_usage(error: click.ClickException, *, as_json: bool) -> None:
    if as_json:
        message = error.format_message()
        values = {"error": type(error).__name__, "message": message}
        report_error(message, values, as_json=True)
        return
    with printing(err=True):
        error.show()


def _report_failure(error: Exception, *, as_json: bool) -> int:
    """Reports what no command expected; returns the exit code. Help texts are printed outside of commands."""
    if isinstance(error, BrokenPipeError):
        discard_stream()
        return EXIT_CLOSED_PIPE
    known = as_equipoise_error(error)
    if known is None:
        report_defect(error, as_json=as_json)
        return EXIT_DEFECT
    report_error(str(known), known.as_dict(), as_json=as_json)
    return known.exit_code


def main() -> NoReturn:
    """Runs the program; the console script. No command reads standard input: a library that asks gets no answer."""
    open_closed_streams()
    with open(os.devnull, "rb") as nothing, suppress(OSError):
        os.dup2(nothing.fileno(), 0)
    code = run(sys.argv[1:])
    try:
        flush_streams()
    except Exception as error:  # noqa: BLE001 - it becomes a message
        code = code or _report_failure(error, as_json=False)
    sys.exit(code)
