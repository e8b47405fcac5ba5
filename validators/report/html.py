"""The report as one page of HTML that needs nothing else."""

from __future__ import annotations

from equipoise.validators.result import Report


def page(report: Report) -> str:
    """The page."""
    return f"<!doctype html><title>{report.task}</title>"
