"""Tables of the HTML report."""

from __future__ import annotations

from dataclasses import asdict

from equipoise.validators.core.tolerance import REASONS
from equipoise.validators.judgement.results import BackendResult, Report
from equipoise.validators.report.html.markup import Html, code, table, tag
from equipoise.validators.report.html.statistics import (
    case_outputs,
    format_bytes,
    format_number,
    format_seconds,
    smallest_margin,
    typical_latency,
)
from equipoise.validators.report.summary import first_line, worst_output

VERDICT_SIGNS = {
    "identical": "=",
    "within noise": "≈",
    "decision-safe": "~",
    "diverged": "≠",
    "failed": "!",
    "not run": "—",
    "nothing compared": "?",
    "reference": "•",
}
"""A sign for each verdict, so that verdicts can be told apart without colours."""


def verdict_of(result: BackendResult, report: Report) -> str:
    """Returns the verdict as text: ``reference`` for the reference, ``not run`` for a backend that was not run."""
    if result is report.reference:
        return "reference"
    return "not run" if result.absent else result.verdict.value


def badge(verdict: str) -> Html:
    """Returns a verdict with its sign and colour."""
    sign = tag("span", VERDICT_SIGNS[verdict], aria_hidden="true")
    return tag("span", sign, f" {verdict}", class_=f"badge {verdict.replace(' ', '-')}")


def verdict_table(report: Report) -> Html:
    """Returns the table of verdicts, one row per backend."""
    head: list[object] = [
        *("backend", "verdict", "worst at", "rms error", "noise floor", "ratio"),
        *("equal decisions", "margin", "latency", "memory"),
    ]
    results = (*report.worst_first, (len(report.backends), report.reference))
    rows = [
        _verdict_row(result, verdict_of(result, report), backend_anchor(index))
        for index, result in results
    ]
    return table("Verdict on every backend", head, rows, css="figures verdicts")


def backend_anchor(index: int) -> str:
    """Returns the id of a backend's section; the reference is the last."""
    return f"backend-{index}"


def _verdict_row(result: BackendResult, verdict: str, anchor: str) -> list[object]:
    worst = worst_output(result)
    total = sum(case.decisions[0] for case in result.cases)
    equal = sum(case.decisions[1] for case in result.cases)
    case, output = worst if worst is not None else (None, None)
    return [
        tag("a", result.label, href=f"#{anchor}"),
        badge(verdict),
        f"{case.case}, {output.name}" if case and output else "—",
        format_number(output.error.rms if output and output.error else None),
        format_number(output.floor if output else None),
        format_number(output.ratio if output else None),
        f"{equal} of {total}" if total else "—",
        format_number(smallest_margin(result)),
        format_seconds(typical_latency(result)),
        format_bytes(result.peak_bytes),
    ]


def case_table(result: BackendResult) -> Html:
    """Returns the metrics of a backend, one row per case and output."""
    head: list[object] = [
        *("case", "output", "verdict", "max abs", "rms", "noise max", "noise rms", "noise floor"),
        *("ratio", "max rel", "ULP", "cosine", "KL", "margin"),
    ]
    rows: list[list[object]] = []
    for case, output in case_outputs(result):
        error, noise = output.error, output.noise
        numbers: list[object] = (
            [
                format_number(error.max_abs),
                format_number(error.rms),
                format_number(noise.max_abs if noise else None),
                format_number(noise.rms if noise else None),
                format_number(output.floor),
                format_number(output.ratio),
                format_number(error.max_rel),
                format_number(error.ulp),
                format_number(error.cosine, 9),
            ]
            if error
            else ["—"] * 9
        )
        rest = [format_number(output.kl), format_number(output.margin)]
        rows.append([case.case, output.name, badge(output.verdict.value), *numbers, *rest])
    rows += [
        [case.case, "—", badge("failed"), first_line(case.failure), *["—"] * 10]
        for case in result.cases
        if case.failure
    ]
    caption = f"Metrics of {result.label} by case"
    return table(caption, head, rows, css="figures")


def tolerance_table(report: Report) -> Html:
    """Returns the tolerances and their reasons."""
    rows: list[list[object]] = [
        [code(name), format_number(value), REASONS[name]]
        for name, value in asdict(report.tolerance).items()
    ]
    return table(
        f"Tolerance at {report.precision}", ["name", "value", "reason"], rows, css="reasons"
    )


def module_table(result: BackendResult) -> Html:
    """Returns the numbers of the chart of errors by depth."""
    rows: list[list[object]] = [
        [
            code(point.path or "(the whole model)"),
            format_number(point.error),
            format_number(point.noise),
        ]
        for point in result.depth
    ]
    caption = f"Relative error of {result.label} by module"
    return table(caption, ["module", "error", "noise"], rows, css="figures")
