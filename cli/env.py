"""``equipoise env``: creates Python environments for backends that conflict with this one."""

from __future__ import annotations

from pathlib import Path

import click

from equipoise.cli import _output, _run, _worker_options
from equipoise.cli._types import PathName


@click.command()
@click.argument("action", type=click.Choice(["create", "list"]))
@click.argument("name", required=False)
@click.option(
    "--path",
    type=PathName(),
    help="The folder of the environment; default: in the user's cache.",
)
@click.option("--python", help="The Python interpreter of the environment; default: this one.")
@click.option("--force", is_flag=True, help="Recreate an environment that `env create` made.")
@_run.handle_errors
def command(
    action: str, name: str | None, path: Path | None, python: str | None, force: bool
) -> int:
    """Create or list environments; ``env create oracle`` has transformers 4.57.6, TensorFlow and Flax."""
    from equipoise.convert.core.errors import InputError
    from equipoise.validators.runtime import environments, interpreters

    if action == "list":
        rows = [
            [
                one,
                "created" if interpreters.environment_interpreter(one).exists() else "missing",
                interpreters.environment_interpreter(one),
            ]
            for one in environments.environment_names()
        ]
        _output.print_table(("environment", "state", "python"), rows)
        return _run.EXIT_OK
    if name is None:
        raise InputError(
            "the name of an environment is missing",
            expected=", ".join(environments.environment_names()),
        )
    with _worker_options.status_line() as tell:
        created = environments.create_environment(name, path, python=python, force=force, tell=tell)
    _output.echo(f"created {created}")
    return _run.EXIT_OK
