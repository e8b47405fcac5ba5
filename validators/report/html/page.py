"""The report as one page of HTML that needs nothing else: no network, no script."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from equipoise.validators.judgement.results import BackendResult, Report
from equipoise.validators.report.html import environments, tables
from equipoise.validators.report.html.backend_section import section
from equipoise.validators.report.html.latency_memory import bars
from equipoise.validators.report.html.markup import Html, code, definitions, join, tag
from equipoise.validators.report.html.statistics import figure
from equipoise.validators.report.summary import row

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
    # Whoever opens a report looks for the backends; the reference is what one looks up.
    results = enumerate((*report.backends, report.reference))
    body = tag(
        "body",
        _header(report),
        tag(
            "main",
            _overview(report),
            [section(report, one, tables.anchor(index)) for index, one in results],
            _allowed(report),
            _machines(report),
            _again(report),
        ),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


_WORDS = re.compile("(?<=[a-z])(?=[A-Z])")
"""Where a class's name may be broken on a narrow screen."""


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
        tag("h1", [(part, tag("wbr")) for part in _WORDS.split(report.class_name)]),
        tag("p", tables.badge(report.verdict.value), " ", in_words(report), class_="verdict"),
        definitions(facts, wide=("model", "date")),
        class_=report.verdict.value.replace(" ", "-"),
    )


def in_words(report: Report) -> str:
    """The verdict of all in a sentence."""
    if not report.backends:
        return "Only the reference was run: it is what others would be held to."
    count = Counter(tables.verdict_of(result, report) for result in report.backends)
    parts = [f"{count[verdict]} {verdict}" for verdict in tables.SIGNS if count[verdict]]
    number = len(report.backends)
    return f"{number} backend{'s' if number > 1 else ''} against PyTorch: {', '.join(parts)}."


def _overview(report: Report) -> Html:
    told = [(result, list(_words(result))) for result in report.backends]
    reasons = [
        tag("li", tag("b", result.label), ": ", "; ".join(texts), ".")
        for result, texts in told
        if texts
    ]
    return tag(
        "section",
        tag("h2", "Verdicts"),
        tables.verdicts(report),
        tag("p", _NOISE, class_="soft"),
        join(tag("h3", "In words"), tag("ul", reasons)) if reasons else None,
        tag("div", bars(report), class_="pair"),
    )


def _words(result: BackendResult) -> Iterator[str]:
    """Why a backend is no better, in short; its own section has the rest."""
    if remark := row(result).remark:
        yield remark.rstrip(".")
    flips = [f"{flip} in the case {case.case}" for case in result.cases for flip in case.flips]
    if flips:
        others = f", and {len(flips) - 1} others" if len(flips) > 1 else ""
        yield f"decided otherwise: {flips[0]}{others}"
    if result.divergence is not None:
        first = result.divergence
        yield (
            f"the first module beyond noise is {first.module or 'the whole model'} ({first.kind}), off by "
            f"{figure(first.error)} of its scale against {figure(first.noise)}"
        )


_NOISE = (
    "Errors are distances from PyTorch in float64. The noise is the distance of PyTorch itself at the precision "
    "under test; the ratio is the error over the noise that it was held to, both as root mean square. A margin is "
    "how far an output may move before a decision changes."
)


def _allowed(report: Report) -> Html:
    return tag("section", tag("h2", "What was allowed"), tables.tolerances(report))


def _machines(report: Report) -> Html:
    tables_of_both = (environments.environments(report), environments.machine(report))
    return tag("section", tag("h2", "Versions and hardware"), tables_of_both)


def _again(report: Report) -> Html | None:
    if not report.command:
        return None
    box = tag("pre", report.command, tabindex="0")
    return tag("section", tag("h2", "Run it again"), box)
