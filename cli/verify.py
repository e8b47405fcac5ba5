"""``equipoise verify``: verifies a finished conversion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output, _run

if TYPE_CHECKING:
    from equipoise.convert.verify import Finding, Verification


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--source", help="The source: every tensor is converted again and compared.")
@click.option("--config", type=click.Path(path_type=Path), help="The source's config.json.")
@_run.revision_option
@_run.json_option
@_run.handle_errors
def command(
    output: Path, source: str | None, config: Path | None, revision: str | None, as_json: bool
) -> int:
    """Verify the conversion in the folder OUTPUT: every file and tensor against equipoise.json.

    With --source the source's files and tensors are verified too, and every tensor of the output is converted again.
    Exit code 1: a file or tensor differs; it is named.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.convert.verify import verify

    path = resolve_source(source, revision) if source is not None else None
    with _output.progress_bar("verifying", as_bytes=False) as tell:
        count = 0

        def say(what: str) -> None:
            nonlocal count
            count += 1
            if tell is not None:
                tell(count, count, what)

        found = verify(output, source=path, config=config, progress=say)
    _run.print_json(_data(found)) if as_json else _show(found)
    return _run.EXIT_DIFFERENCE if found.findings else _run.EXIT_OK


def _data(found: Verification) -> dict[str, Any]:
    return {
        "output": str(found.folder),
        "same": not found.findings,
        "files": found.files,
        "tensors": found.tensors,
        "derived": found.derived,
        "foreign": list(found.foreign),
        "findings": [vars(one) for one in found.findings],
    }


def _show(found: Verification) -> None:
    for one in found.findings:
        _output.echo(f"{_location(one)}: {one.problem}")
        if one.expected is not None:
            _output.echo(f"  expected: {one.expected}\n  found:    {one.found}")
    for name in found.foreign:
        _output.echo(f"{name}: not from this conversion; no framework reads it")
    derived = f", {found.derived} tensors converted again from the source" if found.derived else ""
    verdict = (
        f"{len(found.findings)} differences"
        if found.findings
        else "no differences from the manifest"
    )
    _output.echo(f"{found.files} files and {found.tensors} tensors checked{derived}: {verdict}")


def _location(one: Finding) -> str:
    tensor = f", tensor {one.tensor!r}" if one.tensor else ""
    return f"{one.side} {one.file}{tensor}"
