"""``equipoise verify``: verifies a finished conversion or an artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _audit, _output, _run
from equipoise.cli._types import PathName

if TYPE_CHECKING:
    from equipoise.convert.verify import Finding, Verification
    from equipoise.validators.verify import ArtifactVerification


@click.command()
@click.argument("output", type=PathName())
@click.option("--source", help="The source: every tensor is compared with it.")
@click.option("--config", type=PathName(), help="The source's config.json.")
@click.option(
    "--merge-adapter",
    type=PathName(),
    help="The adapter that the conversion merged.",
)
@click.option("--architecture", help="The FILE.toml that the conversion was told.")
@_run.revision_option
@_run.json_option
@_run.handle_errors
def command(
    output: Path,
    source: str | None,
    config: Path | None,
    merge_adapter: Path | None,
    architecture: str | None,
    revision: str | None,
    as_json: bool,
) -> int:
    """Verify the folder OUTPUT: a conversion against equipoise.json, or an artifact of `export` against artifact.json.

    Every file is hashed, and every tensor of a conversion. With --source the source's files and tensors are verified
    too: every tensor of a conversion is converted again, and every weight of an artifact's program is traced to the
    source. Nothing is run. Exit code 1: a file, tensor or weight differs; it is named.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.validators.verify import is_artifact, verify_artifact

    path = resolve_source(source, revision) if source is not None else None
    if is_artifact(output):
        with _progress(output, path) as say:
            artifact = verify_artifact(output, source=path, progress=say)
        _run.print_json(_artifact_data(artifact)) if as_json else _show_artifact(artifact)
        return _run.EXIT_OK if artifact.same else _run.EXIT_DIFFERENCE
    from equipoise.convert.verify import verify

    with _progress(output, path) as say:
        found = verify(
            output,
            source=path,
            config=config,
            merge_adapter=merge_adapter,
            architecture=architecture,
            progress=say,
        )
    _run.print_json(_data(found)) if as_json else _show(found)
    return _run.EXIT_DIFFERENCE if found.findings else _run.EXIT_OK


@contextmanager
def _progress(*roots: Path | None) -> Iterator[Callable[[str, int], None]]:
    """Yields a function that shows the name of the file or tensor that is checked next, and how many bytes were read.

    Args:
        roots: What is read: each file is hashed, and read once more for its tensors.
    """
    with _output.progress_bar("verifying", as_bytes=True) as tell:
        total = 2 * sum(map(_bytes_below, filter(None, roots))) if tell is not None else 0
        done = current = 0

        def say(what: str, nbytes: int) -> None:
            nonlocal done, current
            done, current = done + current, nbytes
            if tell is not None:
                tell(done, max(total, done + current), what)

        yield say


def _bytes_below(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _artifact_data(found: ArtifactVerification) -> dict[str, Any]:
    return {
        "output": str(found.folder),
        "same": found.same,
        "files": found.files,
        "foreign": list(found.foreign),
        "findings": [vars(one) for one in found.findings],
        "audit": None if found.audit is None else _audit.audit_data(found.audit),
    }


def _show_artifact(found: ArtifactVerification) -> None:
    _show_findings(found.findings, found.foreign)
    if found.audit is not None:
        _audit.show_audit(found.audit)
    _output.echo(f"{found.files} files checked: {_verdict(found.findings)}")


def _data(found: Verification) -> dict[str, Any]:
    return {
        "output": str(found.folder),
        "same": not found.findings,
        "files": found.files,
        "tensors": found.tensors,
        "derived": found.derived,
        "foreign": list(found.foreign),
        "options": list(found.options),
        "findings": [vars(one) for one in found.findings],
    }


def _show(found: Verification) -> None:
    _show_findings(found.findings, found.foreign)
    if found.options:
        _output.echo(f"converted again with {', '.join(found.options)}")
    derived = f", {found.derived} tensors converted again from the source" if found.derived else ""
    checked = f"{found.files} files and {found.tensors} tensors checked{derived}"
    _output.echo(f"{checked}: {_verdict(found.findings)}")


def _show_findings(findings: tuple[Finding, ...], foreign: tuple[str, ...]) -> None:
    for one in findings:
        _output.echo(f"{_location(one)}: {one.problem}")
        if one.expected is not None:
            _output.echo(f"  expected: {one.expected}\n  found:    {one.found}")
    for name in foreign:
        _output.echo(f"{name}: not from Equipoise; no framework reads it")


def _verdict(findings: tuple[Finding, ...]) -> str:
    return f"{len(findings)} differences" if findings else "no differences from the manifest"


def _location(one: Finding) -> str:
    tensor = f", tensor {one.tensor!r}" if one.tensor else ""
    return f"{one.side} {one.file}{tensor}"
