"""``equipoise``: finds the commands, one file each, and runs one.

Nothing here or at the top of a command's file imports numpy or ``equipoise.convert``: help must answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

import click

from equipoise.cli._run import EXIT_BAD_INPUT, EXIT_INTERRUPTED, print_json


class Commands(click.Group):
    """The commands are the modules of this package without an underscore; each holds ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        names = (module.name for module in iter_modules([str(Path(__file__).parent)]))
        return sorted(name for name in names if name != "main" and not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"equipoise.cli.{cmd_name}").command
        return found


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"equipoise {version('equipoise')}")
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
def root() -> None:
    """Moves model weights between PyTorch, TensorFlow and Flax, and proves that nothing changed.

    Exit codes: 0 done, 1 a difference was found, 2 bad input or refused, 130 interrupted.
    """


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; returns the exit code."""
    try:
        code = root.main(list(arguments), prog_name="equipoise", standalone_mode=False)
    except click.Abort:  # click's name for ^C and the end of input
        click.echo("interrupted; the same command resumes what it can", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        if "--json" in arguments:
            print_json({"error": type(error).__name__, "message": error.format_message()})
        else:
            error.show()
        return EXIT_BAD_INPUT
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The program."""
    sys.exit(run(sys.argv[1:]))
