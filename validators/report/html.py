"""The report as one page of HTML that needs nothing else: no network, no script."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from equipoise.validators.report import tables
from equipoise.validators.report.backend import section
from equipoise.validators.report.markup import Html, code, join, tag
from equipoise.validators.report.summary import remarks_on
from equipoise.validators.result import Report

STYLE = Path(__file__).with_name("page.css")

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""A page made from strangers' texts may load and run nothing."""


def page(report: Report) -> str:
    """The page."""
    title = f"{report.task}: {report.verdict.value}, {report.class_name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    results = (report.reference, *report.backends)
    body = tag(
        "body",
        _header(report),
        tag(
            "main",
            _overview(report),
            [section(report, one, tables.anchor(index)) for index, one in enumerate(results)],
            _allowed(report),
            _machines(report),
            _again(report),
        ),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(report: Report) -> Html:
    facts = {
        "Model": code(report.model),
        "Architecture": report.model_type,
        "Precision": report.precision,
        "Device": report.device,
        "Cases": str(len(report.reference.cases)),
        "Date": report.date.replace("T", " ").replace("+00:00", " UTC"),
    }
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    return tag(
        "header",
        tag("p", report.task, class_="eyebrow"),
        tag("h1", report.class_name),
        tag("p", tables.badge(report.verdict.value), " ", in_words(report), class_="verdict"),
        tag("dl", listed),
        class_=report.verdict.value.replace(" ", "-"),
    )


def in_words(report: Report) -> str:
    """The verdict of all in a sentence."""
    if not report.backends:
        return "Only the reference was run: it is what others would be held to."
    count = Counter(tables.verdict_of(result) for result in report.backends)
    parts = [f"{count[verdict]} {verdict}" for verdict in tables.SIGNS if count[verdict]]
    number = len(report.backends)
    return f"{number} backend{'s' if number > 1 else ''} against PyTorch: {', '.join(parts)}."


def _overview(report: Report) -> Html:
    results = (report.reference, *report.backends)
    reasons = [
        tag("li", tag("b", result.label), ": ", text)
        for result in results
        for text in remarks_on(result)
    ]
    return tag(
        "section",
        tag("h2", "Verdicts"),
        tables.verdicts(report),
        tag("p", _NOISE, class_="soft"),
        join(tag("h3", "In words"), tag("ul", reasons)) if reasons else None,
        tag("div", tables.bars(report), class_="pair"),
    )


_NOISE = (
    "Errors are distances from PyTorch in float64. The noise is the distance of PyTorch itself at the precision "
    "under test; the ratio is the error over the noise that it was held to, both as root mean square. A margin is "
    "how far an output may move before a decision changes."
)


def _allowed(report: Report) -> Html:
    return tag("section", tag("h2", "What was allowed"), tables.tolerances(report))


def _machines(report: Report) -> Html:
    tables_of_both = (tables.environments(report), tables.machine(report))
    return tag("section", tag("h2", "Versions and hardware"), tables_of_both)


def _again(report: Report) -> Html | None:
    if not report.command:
        return None
    box = tag("pre", report.command, tabindex="0")
    return tag("section", tag("h2", "Run it again"), box)
