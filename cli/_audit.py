"""Shows the audit of a program's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from equipoise.cli import _output

if TYPE_CHECKING:
    from equipoise.validators.audit.content.report import AuditReport

_MAX_ROWS_SHOWN = 40
"""Rows that are shown without --json."""


def audit_data(audit: AuditReport) -> dict[str, Any]:
    """Returns an audit as JSON values."""
    from equipoise.validators.judgement.results import to_json_value

    values: dict[str, Any] = to_json_value(audit)
    return values


def show_audit(audit: AuditReport) -> None:
    """Prints what became of the weights as a table, the wrong ones first, and the counts."""
    rows = [
        *(
            (one.name, "not accounted for", f"{one.nearest}: {one.problem}".removeprefix(": "))
            for one in audit.not_accounted
        ),
        *(
            (one.name, f"not finite in the {one.side}", f"{one.nan} NaN, {one.infinite} infinite")
            for one in audit.non_finite
        ),
        *((one.name, "unknown", one.problem) for one in audit.unknown),
        *((name, "in the source alone", "") for name in audit.missing),
        *(
            (one.name, "explained", ": ".join(filter(None, (one.how, ", ".join(one.sources)))))
            for one in audit.explained
        ),
    ]
    if rows:
        _output.print_table(("weight", "result", "how"), rows[:_MAX_ROWS_SHOWN])
        if len(rows) > _MAX_ROWS_SHOWN:
            _output.echo(f"... {len(rows) - _MAX_ROWS_SHOWN} more, --json lists all")
        _output.echo()
    _output.echo(audit.summary)
