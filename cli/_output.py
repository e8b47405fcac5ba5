"""Prints tables, sizes and progress: with rich on a terminal, as plain text elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import click

ProgressCallback = Callable[[int, int, str], None]
"""Called with the amount done, the total, and the name of the current item."""

UNSAFE_CHARACTERS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal obeys instead of showing them: control characters but for tab and line feed, and those that
change the direction of text; and halves of UTF-16 pairs, which no terminal can be sent."""

_STDOUT, _STDERR = 1, 2
_UNITS = ("B", "kB", "MB", "GB", "TB")


def echo(text: str = "", *, err: bool = False, colored: str = "", color: str | None = None) -> None:
    r"""Prints a line; characters that a terminal would obey are shown as escapes.

    Args:
        text: The line.
        err: Whether to print it on stderr.
        colored: The last part of the line that is equal to this gets a colour, where a terminal shows it.
        color: The colour; None for none.

    Names of tensors and files come from files of strangers: a name such as ``"\x1b[2J"`` would clear the screen.

    Raises:
        OutputError: Stdout cannot be written; where that is true of stderr, nobody can be told.
    """
    with printing(err=err):
        safe = escape_unsafe(text)
        if colored and color and "NO_COLOR" not in os.environ:
            before, found, after = safe.rpartition(colored)
            safe = f"{before}{click.style(found, fg=color)}{after}" if found else safe
        click.echo(safe, err=err)


@contextmanager
def printing(*, err: bool = False) -> Iterator[None]:
    """Makes a fault of stdout, such as a full disk, an error of Equipoise; ignores one of stderr.

    Raises:
        OutputError: Stdout cannot be written.
        BrokenPipeError: Its reader ended.
    """
    from equipoise.convert.core.errors import OutputError

    try:
        yield
    except OSError as error:
        if err:
            return
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout cannot be written: {error.strerror or error}") from error


def open_closed_streams() -> None:
    """Opens the null device for each standard stream that whoever started the program closed.

    Without it, ``sys.stderr`` is None, and a file that is opened later gets the number of a stream to which a library prints.
    """
    while (unused := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(unused, True)
    os.close(unused)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_STDOUT, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", encoding="utf-8")


def flush_streams() -> None:
    """Flushes stdout and stderr; discards what cannot be written, or Python would report it in its own way.

    Raises:
        OutputError: Stdout could not be written.
        BrokenPipeError: Its reader ended.
    """
    for stream, descriptor in ((sys.stderr, _STDERR), (sys.stdout, _STDOUT)):
        with printing(err=descriptor == _STDERR):
            try:
                stream.flush()
            except OSError:
                discard_stream(descriptor)
                raise


def discard_stream(descriptor: int = _STDOUT) -> None:
    """Leads a standard stream to the null device, so that what Python flushes at its end is no fault."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def escape_unsafe(text: str) -> str:
    r"""Returns the text with unsafe characters as escapes.

    >>> escape_unsafe("weight\x1b[2J")
    'weight\\x1b[2J'
    """
    return UNSAFE_CHARACTERS.sub(
        lambda found: found[0].encode("unicode_escape").decode("ascii"), text
    )


def size_text(nbytes: int) -> str:
    """Formats a number of bytes for display.

    >>> size_text(999), size_text(4_402_180), size_text(3_000_000_000)
    ('999 B', '4.40 MB', '3.00 GB')
    """
    if nbytes < 1000:
        return f"{nbytes} B"
    value = float(nbytes)
    unit = 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.2f} {_UNITS[unit]}"


def shape_text(shape: Sequence[int]) -> str:
    """Formats a shape for display.

    >>> shape_text((3, 4)), shape_text(())
    ('3 x 4', 'scalar')
    """
    return " x ".join(map(str, shape)) if shape else "scalar"


def print_fields(rows: Iterable[tuple[str, object]]) -> None:
    """Prints names and values, one pair on each line; omits empty values."""
    shown_rows = [(name, str(value)) for name, value in rows if value not in ("", None)]
    width = max((len(name) for name, _ in shown_rows), default=0)
    for name, value in shown_rows:
        first, *rest = value.split("\n")
        echo(f"{name:<{width}}  {first}")
        for line in rest:
            echo(f"{'':<{width}}  {line}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table."""
    cells = [[escape_unsafe(str(cell)).replace("\n", "\\n") for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich_table(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in ([*columns], *cells):
        padded = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        echo("  ".join(padded).rstrip())


def _print_rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        grid.add_column(column, overflow="fold")  # names must not be truncated
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    with printing():
        Console().print(grid)


@contextmanager
def progress_bar(what: str, *, as_bytes: bool) -> Iterator[ProgressCallback | None]:
    """Shows a progress bar on stderr if that is a terminal; yields None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TransferSpeedColumn as Speed

    amount = (DownloadColumn(), Speed()) if as_bytes else (MofNCompleteColumn(),)
    shown = TextColumn("{task.fields[name]}", markup=False)
    console = Console(stderr=True)
    with Progress(
        TextColumn(what), BarColumn(), *amount, shown, console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=None, name="")

        def tell(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, name=escape_unsafe(name))

        yield tell
