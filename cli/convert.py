"""``equipoise convert``: writes a checkpoint for another framework."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from equipoise.cli import _output, _run
from equipoise.cli._completion import complete_format
from equipoise.cli._types import ByteSize, NameValue, PathName, SourceName, pairs_as_dict

if TYPE_CHECKING:
    from equipoise.convert.api import ConversionOptions
    from equipoise.convert.conversion.coverage import CoverageEntry
    from equipoise.convert.conversion.manifest import Manifest
    from equipoise.convert.conversion.plan_types import Plan

_MAX_ENTRIES_SHOWN = 8
"""Entries of a list that are shown without --json."""


@click.command()
@click.argument("source", type=SourceName())
@click.argument("output", type=PathName())
@click.option(
    "--to",
    required=True,
    shell_complete=complete_format,
    help="tensorflow, flax, pytorch, or a format of `routes`.",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="Cast all floating-point tensors; default: keep all dtypes.",
)
@click.option(
    "--max-shard-size",
    type=ByteSize(),
    help="Largest file, e.g. 5GB, 500MB, 2GiB; default: one file.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@click.option("--force", is_flag=True, help="Replace an output folder that Equipoise made.")
@_run.architecture_option
@_run.config_option
@_run.layout_option
@click.option(
    "--allow",
    type=NameValue("reason", strip=True),
    multiple=True,
    callback=pairs_as_dict,
    help="A tensor that may be lost, with the reason, which the manifest records; repeatable.",
)
@click.option(
    "--allow-lossy",
    is_flag=True,
    help="Leave out what the target's class cannot hold; each loss is reported and recorded.",
)
@click.option(
    "--unproven",
    is_flag=True,
    help="Convert what no code of others has judged (docs/graph.md lists it).",
)
@click.option(
    "--dequantize",
    is_flag=True,
    help="Compute plain weights from quantized ones: fp8, int8, NF4, FP4, GPTQ, AWQ, compressed-tensors.",
)
@click.option(
    "--merge-adapter",
    type=PathName(),
    metavar="FOLDER",
    help="A LoRA adapter of PEFT (LoRA, DoRA, rsLoRA) to merge into the weights.",
)
@_run.subtree_option
@_run.variant_option
@_run.revision_option
@_run.json_option
@_run.handle_errors
def command(
    source: str,
    output: Path,
    to: str,
    dry_run: bool,
    force: bool,
    as_json: bool,
    **options: Unpack[ConversionOptions],
) -> int:
    """Write the checkpoint SOURCE (folder, file, Hub id) for another framework into the folder OUTPUT.

    The folder appears when it is complete; its equipoise.json records the hash of every tensor.
    """
    from equipoise.convert.api import plan_conversion
    from equipoise.convert.conversion.execute import check_output, execute

    plan = plan_conversion(source, to=to, **options)
    for note in plan.notes:
        if note.startswith(("lost: ", "not proven: ")):
            _output.echo(f"warning: {note}", err=True)
    if dry_run:
        check_output(plan, output, force=force)
        summary = {"dry_run": True, **_summary(plan)}
        _run.print_json(summary) if as_json else _show(plan, summary)
        return _run.EXIT_OK
    with _output.progress_bar("converting", as_bytes=True) as tell:
        manifest = execute(plan, output, force=force, progress=tell)
    done = {"dry_run": False, "output": str(output), **_summary(plan), **_proof(manifest)}
    _run.print_json(done) if as_json else _show_done(plan, manifest, output)
    return _run.EXIT_OK


def _summary(plan: Plan) -> dict[str, Any]:
    """Returns the plan as plain data."""
    return {
        "source": str(plan.checkpoint.path),
        "route": list(plan.route),
        "format": plan.target.name,
        "architecture": list(plan.architecture) if plan.architecture else None,
        "steps": len(plan.steps),
        "tensors": sum(len(step.targets) for step in plan.steps),
        "bytes": plan.nbytes,
        "files": [shard.filename for shard in plan.shards],
        "casts": _casts(plan),
        "checks": [check.name for check in plan.checks],
        "tied": _entries(plan, "tied"),
        "computed": _entries(plan, "computed"),
        "left_out": _entries(plan, "left out"),
        "allowed": _entries(plan, "allowed"),
        "notes": list(plan.notes),
    }


def _casts(plan: Plan) -> dict[str, int]:
    """Returns "dtype -> dtype" -> number of tensors that are cast so."""
    pairs = Counter(
        f"{plan.checkpoint[step.sources[0]].dtype.name} -> {header.dtype.name}"
        for step in plan.steps
        for header in step.targets
        if step.sources and plan.checkpoint[step.sources[0]].dtype != header.dtype
    )
    return dict(sorted(pairs.items()))


def _entries(plan: Plan, status: str) -> dict[str, str]:
    found: list[CoverageEntry] = [entry for entry in plan.coverage if entry.status.value == status]
    return {entry.name: entry.reason for entry in found}


def _proof(manifest: Manifest) -> dict[str, Any]:
    return {"sha256": manifest.target_files}


def _show(plan: Plan, summary: dict[str, Any]) -> None:
    casts = ", ".join(f"{count} {pair}" for pair, count in summary["casts"].items())
    architecture = summary["architecture"] or ["not needed"]
    files = len(summary["files"])
    _output.print_fields(
        [
            ("source", f"{summary['source']} ({plan.checkpoint.container})"),
            ("architecture", " ".join(architecture)),
            ("route", f"{' -> '.join(summary['route'])} as {summary['format']}"),
            ("writes", f"{summary['tensors']} tensors in {summary['steps']} steps"),
            ("size", f"{_output.size_text(summary['bytes'])} in {files} file{'s' * (files > 1)}"),
            ("casts", casts or "none: bit for bit"),
            ("checks", f"{len(summary['checks'])} values before writing" * bool(plan.checks)),
            *((key.replace("_", " "), _list_entries(summary[key])) for key in _LISTS),
            ("notes", "\n".join(plan.notes)),
        ]
    )


_LISTS = ("tied", "computed", "left_out", "allowed")


def _list_entries(entries: dict[str, str]) -> str:
    lines = [f"{name}: {reason}" if reason else name for name, reason in entries.items()]
    more = len(lines) - _MAX_ENTRIES_SHOWN
    return "\n".join([*lines[:_MAX_ENTRIES_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _show_done(plan: Plan, manifest: Manifest, output: Path) -> None:
    _show(plan, _summary(plan))
    for name, digest in manifest.target_files.items():
        _output.echo(f"wrote {output / name}  sha256 {digest[:16]}...")
