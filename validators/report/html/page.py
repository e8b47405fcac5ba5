"""The report as one self-contained HTML page, without network access or scripts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from equipoise.validators.judgement.results import BackendResult, Report
from equipoise.validators.report.html import environments, tables
from equipoise.validators.report.html.backend_section import backend_section
from equipoise.validators.report.html.latency_memory import latency_memory_charts
from equipoise.validators.report.html.markup import Html, code, definitions, document, join, tag
from equipoise.validators.report.html.statistics import format_number
from equipoise.validators.report.summary import (
    describe_place,
    precision_remarks,
    summary_row,
)

STYLESHEET = Path(__file__).with_name("page.css")

CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page contains texts of unknown origin and may load and run nothing."""


def to_html(report: Report) -> str:
    """Returns the HTML page of a report."""
    title = f"{report.task}: {report.verdict.value}, {report.class_name}"
    extra = (
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
    )
    # The backends come first: they are what readers of a report look for.
    results = enumerate((*report.backends, report.reference))
    main = tag(
        "main",
        _overview(report),
        [backend_section(report, one, tables.backend_anchor(index)) for index, one in results],
        _tolerance_section(report),
        _environment_section(report),
        _rerun_section(report),
    )
    stylesheet = STYLESHEET.read_text(encoding="utf-8")
    return document(title, CONTENT_SECURITY_POLICY, stylesheet, _header(report), main, extra=extra)


_CAMEL_CASE_BOUNDARY = re.compile("(?<=[a-z])(?=[A-Z])")
"""Positions where the name of a class may be broken on a narrow screen."""


def _header(report: Report) -> Html:
    facts: list[tuple[str, object]] = [
        ("model", code(report.model)),
        ("architecture", report.model_type),
        ("precision", report.precision),
        ("device", report.device),
        ("cases", len(report.reference.cases)),
        ("date", report.date.replace("T", " ").replace("+00:00", " UTC")),
    ]
    return tag(
        "header",
        tag("p", report.task, class_="eyebrow"),
        tag("h1", [(part, tag("wbr")) for part in _CAMEL_CASE_BOUNDARY.split(report.class_name)]),
        tag(
            "p", tables.badge(report.verdict.value), " ", verdict_sentence(report), class_="verdict"
        ),
        definitions(facts, wide=("model", "date")),
        class_=report.verdict.value.replace(" ", "-"),
    )


def verdict_sentence(report: Report) -> str:
    """Summarizes the verdicts of all backends in a sentence."""
    if not report.backends:
        return "Only the reference was run: there is no backend to compare with it."
    counts = Counter(tables.verdict_of(result, report) for result in report.backends)
    parts = [f"{counts[verdict]} {verdict}" for verdict in tables.VERDICT_SIGNS if counts[verdict]]
    number = len(report.backends)
    return f"{number} backend{'s' if number > 1 else ''} against PyTorch: {', '.join(parts)}."


def _overview(report: Report) -> Html:
    sentences = [(result, list(_verdict_sentences(result))) for _, result in report.worst_first]
    reasons = [
        tag("li", tag("b", result.label), ": ", "; ".join(texts), ".")
        for result, texts in sentences
        if texts
    ]
    return tag(
        "section",
        tag("h2", "Verdicts"),
        tables.verdict_table(report),
        tag("p", _NOISE_TEXT, class_="soft"),
        join(tag("h3", "Summary"), tag("ul", reasons)) if reasons else None,
        tag("div", latency_memory_charts(report), class_="pair"),
    )


def _verdict_sentences(result: BackendResult) -> Iterator[str]:
    """Yields why a backend has no better verdict, in short; its own section has the details."""
    if remark := summary_row(result).remark:
        yield remark.rstrip(".")
    yield from precision_remarks(result)
    flips = [f"{flip} in the case {case.case}" for case in result.cases for flip in case.flips]
    if flips:
        others = f", and {len(flips) - 1} others" if len(flips) > 1 else ""
        yield f"changed decision: {flips[0]}{others}"
    if result.divergence is not None:
        first = result.divergence
        yield (
            f"it is first beyond noise in {describe_place(first)}, with a relative error of "
            f"{format_number(first.error)} against noise of {format_number(first.noise)}"
        )


_NOISE_TEXT = (
    "Errors are differences from PyTorch in float64. The noise is the error of PyTorch itself at the precision "
    "under test; the ratio is the rms error over the noise floor: the largest noise of several draws, or some "
    "roundings of the output's scale where that is more. A margin is how far an output may move before a decision changes."
)


def _tolerance_section(report: Report) -> Html:
    return tag("section", tag("h2", "Tolerance"), tables.tolerance_table(report))


def _environment_section(report: Report) -> Html:
    tables_of_both = (environments.environments_table(report), environments.host_list(report))
    return tag("section", tag("h2", "Versions and hardware"), tables_of_both)


def _rerun_section(report: Report) -> Html | None:
    if not report.command:
        return None
    box = tag("pre", report.command, tabindex="0")
    return tag("section", tag("h2", "Command to repeat the validation"), box)
