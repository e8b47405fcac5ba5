"""``equipoise env``: creates Python environments for backends that conflict with this one."""

from __future__ import annotations

from pathlib import Path

import click

from equipoise.cli import _output, _run, _validation


@click.command()
@click.argument("action", type=click.Choice(["create", "list"]))
@click.argument("name", required=False)
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="The folder of the environment; default: in the user's cache.",
)
@click.option("--python", help="The Python interpreter of the environment; default: this one.")
@click.option("--force", is_flag=True, help="Recreate an existing environment.")
@_run.handle_errors
def command(
    action: str, name: str | None, path: Path | None, python: str | None, force: bool
) -> int:
    """Create or list environments; ``env create oracle`` has transformers 4.57.6, TensorFlow and Flax."""
    from equipoise.convert.core.errors import InputError
    from equipoise.validators import environments, pythons

    if action == "list":
        rows = [
            [
                one,
                "created" if pythons.environment_python(one).exists() else "missing",
                pythons.environment_python(one),
            ]
            for one in environments.names()
        ]
        _output.print_table(("environment", "state", "python"), rows)
        return _run.EXIT_OK
    if name is None:
        raise InputError(
            "the name of an environment is missing", expected=", ".join(environments.names())
        )
    with _validation.status_line() as tell:
        created = environments.create(name, path, python=python, force=force, tell=tell)
    click.echo(f"created {created}")
    return _run.EXIT_OK
