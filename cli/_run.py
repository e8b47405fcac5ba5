"""Shared by all commands: errors become messages and exit codes, ``--json`` prints one document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

EXIT_OK = 0
EXIT_DIFFERENCE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

P = ParamSpec("P")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
architecture_option = click.option(
    "--architecture",
    help="Model type, class, or FILE.toml of `derive` to use instead of the config's.",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A config.json that is not next to the weights.",
)
layout_option = click.option(
    "--from", "layout", help="Use the weights of this layout if there are several."
)
subtree_option = click.option(
    "--subtree",
    help="Take the tensors whose names begin with NAME, where a file holds several models.",
)
variant_option = click.option("--variant", help="Take the weights of a variant, e.g. fp16.")
revision_option = click.option("--revision", help="Branch, tag or commit of a source on the Hub.")


def handle_errors(run: Callable[P, int]) -> Callable[P, int]:
    """Decorates a command: reports errors of Equipoise and returns their exit code."""

    @wraps(run)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        from equipoise.convert.core.errors import EquipoiseError

        try:
            return run(*args, **kwargs)
        except EquipoiseError as error:
            report_error(str(error), error.as_dict(), as_json=bool(kwargs.get("as_json")))
            return error.exit_code

    return guarded


def report_error(text: str, values: dict[str, Any], *, as_json: bool) -> None:
    """Reports an error: as text on stderr, or as JSON on stdout."""
    if as_json:
        print_json(values)
    else:
        click.echo(f"error: {text}", err=True)


def print_json(values: object) -> None:
    """Prints one JSON document on stdout; infinite and NaN floats become null."""
    from equipoise.convert.core.json_values import to_json_value

    text = json.dumps(to_json_value(values), indent=2, ensure_ascii=not _stdout_is_utf8())
    click.echo(text)


def _stdout_is_utf8() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
