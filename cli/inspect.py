"""``equipoise inspect``: describes a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output, _run
from equipoise.cli._types import SourceName

if TYPE_CHECKING:
    from equipoise.convert.survey import Survey

_TENSORS_SHOWN_AT_EACH_END = 4
"""Tensors shown at the start and at the end without --tensors."""
_HIDDEN_METADATA = frozenset({"groups"})
"""Long lists for the program that are not shown."""


@click.command()
@click.argument("source", type=SourceName())
@click.option("--tensors", "every", is_flag=True, help="List all tensors, not the first and last.")
@_run.architecture_option
@_run.config_option
@_run.layout_option
@_run.subtree_option
@_run.variant_option
@_run.revision_option
@_run.json_option
@_run.handle_errors
def command(
    source: str,
    every: bool,
    architecture: str | None,
    config: Path | None,
    layout: str | None,
    subtree: str | None,
    variant: str | None,
    revision: str | None,
    as_json: bool,
) -> int:
    """Describe the checkpoint SOURCE; reads headers only.

    Works for any file of a known container, of known and unknown architectures.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
    from equipoise.convert.survey import survey_checkpoint

    path = resolve_source(source, revision, layout=layout, variant=variant)
    checkpoint = open_checkpoint(
        path, layout=layout, config=config, subtree=subtree, variant=variant
    )
    found = survey_checkpoint(checkpoint, architecture)
    _run.print_json(_data(found)) if as_json else _show(found, every=every)
    return _run.EXIT_OK


def _data(found: Survey) -> dict[str, Any]:
    checkpoint = found.checkpoint
    return {
        "source": str(checkpoint.path),
        "container": checkpoint.container,
        "variant": checkpoint.variant,
        "subtree": checkpoint.prefix.rstrip("./") or None,
        "quantization": checkpoint.quantization,
        "layout": found.layout,
        "architecture": _architecture(found),
        "problem": found.problem or None,
        "files": [{"name": name, "bytes": size} for name, size in _sizes(found)],
        "totals": {
            "tensors": len(checkpoint),
            "elements": sum(size for _, size, _ in found.totals.values()),
            "bytes": sum(nbytes for _, _, nbytes in found.totals.values()),
            "dtypes": {
                name: {"tensors": count, "elements": size, "bytes": nbytes}
                for name, (count, size, nbytes) in found.totals.items()
            },
        },
        "ties": dict(found.ties),
        "left_out": dict(checkpoint.left_out),
        "oddities": list(found.oddities),
        "metadata": _metadata(found),
        "tensors": [
            {
                "name": name,
                "dtype": ref.dtype.name,
                "shape": list(ref.shape),
                "bytes": ref.nbytes,
                "file": ref.file.name,
            }
            for name, ref in checkpoint.items()
        ],
    }


def _architecture(found: Survey) -> dict[str, Any] | None:
    one = found.architecture
    if one is None:
        return None
    return {
        "model_type": one.model_type,
        "class": one.cls,
        "fits": one.fits,
        "config_names": one.named,
        "unknown": list(one.unknown),
        "missing": list(one.missing),
    }


def _metadata(found: Survey) -> dict[str, str]:
    metadata = found.checkpoint.metadata
    return {key: value for key, value in metadata.items() if key not in _HIDDEN_METADATA}


def _show(found: Survey, *, every: bool) -> None:
    checkpoint, one = found.checkpoint, found.architecture
    variant = f", {checkpoint.variant}" if checkpoint.variant else ""
    fit = "" if one is None or one.fits else " (nearest; it does not fit)"
    what = f"{one.model_type} {one.cls}{fit}" if one else f"unknown: {found.problem}"
    metadata = ", ".join(f"{key} {value}" for key, value in _metadata(found).items())
    _output.print_fields(
        [
            ("source", checkpoint.path),
            ("container", f"{checkpoint.container}{variant}"),
            ("quantized", checkpoint.quantization),
            ("layout", found.layout or "unknown"),
            ("architecture", what),
            ("files", _files(found)),
            ("tensors", _totals(found)),
            ("ties", _limit_lines([f"{name} = {other}" for name, other in found.ties.items()])),
            ("left out", _limit_lines([f"{k}: {why}" for k, why in checkpoint.left_out.items()])),
            ("oddities", _limit_lines(list(found.oddities))),
            ("metadata", metadata if len(metadata) <= 500 else f"{metadata[:500]} ..."),
        ]
    )
    _show_tensors(found, every=every)


def _files(found: Survey) -> str:
    return _limit_lines([f"{name}  {_output.size_text(size)}" for name, size in _sizes(found)])


def _sizes(found: Survey) -> list[tuple[str, int]]:
    """Returns names and sizes of the files, below their folder where several have one name."""
    names = {path: name for name, path in found.checkpoint.named_files.items()}
    return [(names[path], size) for path, size in found.files]


def _totals(found: Survey) -> str:
    lines = [
        f"{count} {name}, {size:,} elements, {_output.size_text(nbytes)}"
        for name, (count, size, nbytes) in found.totals.items()
    ]
    return "\n".join(lines) or "none"


def _limit_lines(lines: list[str], most: int = 8) -> str:
    more = len(lines) - most
    return "\n".join([*lines[:most], *([f"and {more} more"] if more > 0 else [])])


def _show_tensors(found: Survey, *, every: bool) -> None:
    rows: list[tuple[str, ...]] = [
        (name, ref.dtype.name, _output.shape_text(ref.shape), _output.size_text(ref.nbytes))
        for name, ref in found.checkpoint.items()
    ]
    hidden = len(rows) - 2 * _TENSORS_SHOWN_AT_EACH_END
    if hidden > 1 and not every:
        rows[_TENSORS_SHOWN_AT_EACH_END:-_TENSORS_SHOWN_AT_EACH_END] = [
            (f"... {hidden} more, --tensors lists all", "", "", "")
        ]
    if rows:
        _output.echo()
        _output.print_table(("name", "dtype", "shape", "size"), rows)
