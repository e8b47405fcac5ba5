"""``equipoise derive``: writes an architecture file from PyTorch's model classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output, _run
from equipoise.cli._types import PathName, SourceName

if TYPE_CHECKING:
    from equipoise.convert.derive import DerivedArchitecture

_MAX_DIFFERENCES_SHOWN = 12
"""Differences that are shown without --json."""


@click.command()
@click.argument("source", type=SourceName())
@click.option("--output", type=PathName(), help="The file to write; default: stdout.")
@click.option("--class", "classes", multiple=True, help="A class to include; repeatable.")
@click.option(
    "--also",
    multiple=True,
    help="A further folder or config of the same model type whose values are tried too; repeatable.",
)
@click.option("--force", is_flag=True, help="Replace a file that `derive` wrote.")
@_run.json_option
@_run.handle_errors
def command(
    source: str,
    output: Path | None,
    classes: tuple[str, ...],
    also: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> int:
    """Write an architecture file for SOURCE (a model type, or a folder with config.json), for review by a person.

    Needs torch and transformers. The classes are built without weights under many configs, and the file is compared
    with all of them. Exit code 1: the file is not exact.
    """
    from equipoise.convert.core.errors import OutputError
    from equipoise.convert.derive import derive
    from equipoise.convert.files.output_file import write_output_file
    from equipoise.convert.files.ownership import check_replaceable_file

    if output is not None:
        check_replaceable_file(output)
        if output.is_file() and not force:
            raise OutputError("the file exists", file=output, hint="--force replaces it")
    found = derive(source, classes, also=also)
    if output is not None:
        write_output_file(output, found.text)
    elif not as_json:
        with _output.printing():
            click.echo(found.text, nl=False)
    if as_json:
        _run.print_json(_summary(found, output))
    else:
        _show(found, output)
    return _run.EXIT_OK if found.complete else _run.EXIT_DIFFERENCE


def _summary(found: DerivedArchitecture, output: Path | None) -> dict[str, Any]:
    return {
        "model_type": found.model_type,
        "complete": found.complete,
        "exact_for_given_config": found.exact_for_given_config,
        "configs": found.configs,
        "classes": {name: list(problems) for name, problems in found.classes.items()},
        "unbuilt": dict(found.unbuilt),
        "unsolved": list(found.unsolved),
        "stuck": list(found.unchangeable),
        "output": str(output) if output is not None else None,
        "text": found.text,
    }


def _show(found: DerivedArchitecture, output: Path | None) -> None:
    """Prints a summary for the reviewer on stderr, since stdout may be the file."""
    exact = sum(not problems for problems in found.classes.values())
    _output.echo(
        f"{found.model_type}: {exact} of {len(found.classes)} classes are exact, "
        f"under {found.configs} configs"
        + (
            "; all are exact under the given config"
            if found.exact_for_given_config and not found.complete
            else ""
        ),
        err=True,
    )
    lines = [
        *(f"no expression, exact for the given config only: {one}" for one in found.unsolved),
        *(f"{name}: {one}" for name, problems in found.classes.items() for one in problems),
        *(f"{name} cannot be built: {why}" for name, why in found.unbuilt.items()),
    ]
    for line in lines[:_MAX_DIFFERENCES_SHOWN]:
        _output.echo(f"  {line}", err=True)
    if len(lines) > _MAX_DIFFERENCES_SHOWN:
        _output.echo(f"  and {len(lines) - _MAX_DIFFERENCES_SHOWN} more; --json has all", err=True)
    if found.unchangeable:
        _output.echo(
            f"  fields that could not be changed: {', '.join(found.unchangeable)}", err=True
        )
    if output is not None:
        _output.echo(f"wrote {output}", err=True)
