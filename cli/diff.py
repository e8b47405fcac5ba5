"""``equipoise diff``: compares two checkpoints tensor by tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _audit, _output, _run
from equipoise.cli._types import SourceName

if TYPE_CHECKING:
    from equipoise.convert.core.tensor import TensorRef
    from equipoise.convert.diff import CheckpointComparison, TensorComparison
    from equipoise.validators.audit.content.report import AuditReport

_MAX_ROWS_SHOWN = 40
"""Rows that are shown without --json."""


@click.command()
@click.argument("a", type=SourceName())
@click.argument("b", type=SourceName())
@_run.architecture_option
@_run.subtree_option
@_run.variant_option
@click.option("--subtree-b", help="The same as --subtree, for B.")
@click.option("--variant-b", help="The same as --variant, for B.")
@_run.json_option
@_run.handle_errors
def command(
    a: str,
    b: str,
    architecture: str | None,
    subtree: str | None,
    variant: str | None,
    subtree_b: str | None,
    variant_b: str | None,
    as_json: bool,
) -> int:
    """Compare the checkpoints A and B, in any formats, tensor by tensor; B may be a program of `export`.

    Checkpoints of a known architecture are compared as PyTorch's parameters, with ties resolved; others by the
    names in their files. Exit code 0: no tensor is different or missing; tensors that are equal after a cast to the
    narrower dtype pass and are counted. 1: a tensor is different or missing.

    Of a program (ONNX, TorchScript, .pt2, SavedModel, program.jax, TensorFlow Lite) every weight is traced to A. Exit
    code 1: a weight is not accounted for.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.validators.verify import audit_program, find_program

    first, second = resolve_source(a, variant=variant), resolve_source(b, variant=variant_b)
    program = find_program(second)
    if program is not None and find_program(first) is None:
        return _diff_program(a, b, audit_program(program, first), as_json=as_json)
    from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
    from equipoise.convert.diff import compare_checkpoints

    with _output.progress_bar("comparing", as_bytes=False) as tell:
        found = compare_checkpoints(
            open_checkpoint(first, subtree=subtree, variant=variant),
            open_checkpoint(second, subtree=subtree_b, variant=variant_b),
            tell,
            architecture=architecture,
        )
    _run.print_json({"a": a, "b": b, **_data(found)}) if as_json else _show(found)
    return _run.EXIT_OK if found.same else _run.EXIT_DIFFERENCE


def _diff_program(a: str, b: str, found: AuditReport, *, as_json: bool) -> int:
    """Shows the audit of a program; a program that cannot be read is bad input."""
    from equipoise.convert.core.errors import InputError

    if found.failure:
        raise InputError(found.failure)
    same = not found.findings
    if as_json:
        _run.print_json({"a": a, "b": b, "same": same, "audit": _audit.audit_data(found)})
    else:
        _audit.show_audit(found)
    return _run.EXIT_OK if same else _run.EXIT_DIFFERENCE


def _counts(found: CheckpointComparison) -> dict[str, int]:
    from equipoise.convert.diff import TensorRelation

    return {one.value: found.count(one) for one in TensorRelation}


def _data(found: CheckpointComparison) -> dict[str, Any]:
    return {
        "same": found.same,
        "compared_by": found.by,
        "counts": {name.replace(" ", "_"): count for name, count in _counts(found).items()},
        "tensors": [
            {
                "name": one.name,
                "result": one.relation.value,
                "a": _side(one.a),
                "b": _side(one.b),
                "difference": _difference(one),
            }
            for one in found.tensors
        ],
        "not_compared": dict(found.not_compared),
        "notes": list(found.notes),
    }


def _side(ref: TensorRef | None) -> dict[str, Any] | None:
    return None if ref is None else {"dtype": ref.dtype.name, "shape": list(ref.shape)}


def _difference(one: TensorComparison) -> dict[str, Any] | None:
    if one.distance is None:
        return None
    return {
        "elements": one.distance.elements,
        "max_abs": one.distance.max_abs,
        "max_rel": one.distance.max_rel,
        "not_finite": one.distance.not_finite,
    }


def _show(found: CheckpointComparison) -> None:
    wanted = [one for one in found.tensors if one.relation.value != "identical"]
    # Failures first: they must stay visible if every tensor was cast.
    wanted.sort(key=lambda one: one.relation.value == "equal after cast")
    if wanted:
        rows = [(one.name, one.relation.value, _detail(one)) for one in wanted[:_MAX_ROWS_SHOWN]]
        _output.print_table(("tensor", "result", "how"), rows)
        if len(wanted) > _MAX_ROWS_SHOWN:
            _output.echo(f"... {len(wanted) - _MAX_ROWS_SHOWN} more, --json lists all")
        _output.echo()
    for note in found.notes:
        _output.echo(f"note: {note}")
    for name, reason in found.not_compared.items():
        _output.echo(f"not compared: {name}: {reason}")
    counts = ", ".join(f"{count} {name}" for name, count in _counts(found).items() if count)
    _output.echo(f"{len(found.tensors)} tensors: {counts or 'none'}")


def _detail(one: TensorComparison) -> str:
    a, b = one.a, one.b
    if a is None or b is None:
        ref = a or b
        return f"{ref.dtype.name} {_output.shape_text(ref.shape)}" if ref is not None else ""
    dtypes = f"{a.dtype.name} and {b.dtype.name}" if a.dtype != b.dtype else ""
    if a.shape != b.shape:
        return f"shapes {_output.shape_text(a.shape)} and {_output.shape_text(b.shape)}"
    if one.distance is None:
        return dtypes
    far = one.distance
    text = (
        f"{far.elements} of {a.size} elements, max abs {far.max_abs:.3g}, max rel {far.max_rel:.3g}"
    )
    return ", ".join(part for part in (dtypes, text) if part)
