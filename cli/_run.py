"""Shared by all commands: errors become messages and exit codes, ``--json`` prints one document."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from equipoise.cli._output import UNSAFE_CHARACTERS, discard_stream, echo, printing
from equipoise.cli._types import PathName

if TYPE_CHECKING:
    from equipoise.convert.core.errors import EquipoiseError

EXIT_OK = 0
EXIT_DIFFERENCE = 1
EXIT_BAD_INPUT = 2
EXIT_BACKEND_FAILED = 3
"""A backend failed, nothing was compared, or a time limit was exceeded."""
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141

_PACKAGES = {"PIL": "pillow", "tf_keras": "tf-keras", "google": "protobuf"}
"""Names of packages in a registry where they differ from the name of the module."""

_HINTS = {
    errno.ENOSPC: "make room, then run it again",
    errno.EDQUOT: "make room, then run it again",
    errno.EFBIG: "the file size is limited here (`ulimit -f`, or the file system)",
    errno.EMFILE: "allow more open files (`ulimit -n`), then run it again",
    errno.ENFILE: "close other programs, then run it again",
    errno.ENOMEM: "free some memory, then run it again",
    errno.EIO: "look at the disk and the terminal, then run it again",
}
"""Faults of the system, of which an ``OSError`` may name no file -> what to do."""

_TRACEBACK = "\nTraceback (most recent call last):"
_MAX_PATH_CHARACTERS = 200
_MAX_CAUSE_CHARACTERS = 2000

P = ParamSpec("P")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
architecture_option = click.option(
    "--architecture",
    help="Model type, class, or FILE.toml of `derive` to use instead of the config's.",
)
config_option = click.option(
    "--config",
    type=PathName(),
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
        except BrokenPipeError:  # the reader of stdout ended, as `head` does
            discard_stream()
            return EXIT_CLOSED_PIPE
        except (EquipoiseError, OSError, MemoryError, ModuleNotFoundError) as raised:
            error = as_equipoise_error(raised)
            if error is None:
                raise
            as_json = bool(kwargs.get("as_json"))
            report_error(str(error), error.as_dict(), as_json=as_json)
            return error.exit_code

    return guarded


def as_equipoise_error(error: Exception) -> EquipoiseError | None:
    """Returns what a user can mend as an error of Equipoise: a file that cannot be used, a package that is missing.

    A fault of the system that names no file, such as a full disk, is one too.
    """
    from equipoise.convert.core.errors import (
        EquipoiseError,
        InputError,
        LimitError,
        OutputError,
    )

    if isinstance(error, EquipoiseError):
        return error
    if isinstance(error, MemoryError):
        return LimitError(
            "the memory is not enough", hint="allow more memory, or end other programs"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return InputError(f"cannot be used: {error.strerror}", file=_shorten(str(error.filename)))
    if isinstance(error, OSError) and error.errno in _HINTS:
        return OutputError(f"cannot go on: {error.strerror}", hint=_HINTS[error.errno])
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        if module != "equipoise":
            return InputError(
                f"this needs the package {module!r}, which is not installed",
                hint=f"pip install {_PACKAGES.get(module, module)}",
            )
    return None


def _shorten(path: str) -> str:
    return path if len(path) <= _MAX_PATH_CHARACTERS else f"{path[:_MAX_PATH_CHARACTERS]}..."


def report_defect(error: Exception, *, as_json: bool) -> None:
    """Reports an exception that nobody expected: a defect of Equipoise."""
    import platform
    import traceback
    from importlib.metadata import version

    where = traceback.extract_tb(error.__traceback__)[-1]
    cause = f"{type(error).__name__}: {error}"
    location = f"{Path(where.filename).name}, line {where.lineno}"
    versions = f"equipoise {version('equipoise')}, Python {platform.python_version()}"
    message = f"{cause[:_MAX_CAUSE_CHARACTERS]} ({location})"
    meaning = f"This is a defect of Equipoise ({versions}), not an answer about your files."
    hint = "please report it with the command and this message; EQUIPOISE_TRACEBACK=1 shows where it comes from"
    if os.environ.get("EQUIPOISE_TRACEBACK") == "1":
        with printing(err=True):
            traceback.print_exception(error)
    values = {"error": "Defect", "message": message, "found": meaning, "hint": hint}
    report_error(f"{message}\n  {meaning}\n  to do:    {hint}", values, as_json=as_json)


def report_error(text: str, values: dict[str, Any], *, as_json: bool) -> None:
    """Reports an error: as text on stderr, or as JSON on stdout if that can be written."""
    from equipoise.convert.core.errors import OutputError

    if as_json:
        with suppress(OutputError, BrokenPipeError):
            print_json(values)
            return
    if os.environ.get("EQUIPOISE_TRACEBACK") != "1":
        # The failure of a worker process has the process's own traceback, for logs and reports.
        text = text.partition(_TRACEBACK)[0]
    echo(f"error: {text}", err=True)


def print_json(values: object) -> None:
    """Prints one JSON document on stdout; infinite and NaN floats become null."""
    from equipoise.convert.core.json_values import to_json_value

    text = json.dumps(to_json_value(values), indent=2, ensure_ascii=not _stdout_is_utf8())
    with printing():
        click.echo(UNSAFE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _stdout_is_utf8() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
