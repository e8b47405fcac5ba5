"""Bar charts of latency and memory of all backends."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.judgement.results import BackendResult, Report
from equipoise.validators.report.html.markup import Html, tag
from equipoise.validators.report.html.statistics import (
    count_passes,
    format_bytes,
    format_seconds,
    slowest_pass,
    typical_latency,
)


def latency_memory_charts(report: Report) -> list[Html]:
    """Returns both charts; omits one without values."""
    results = [result for result in (*report.backends, report.reference) if result.cases]
    latency = [
        (result.label, typical_latency(result), _describe_latency(result)) for result in results
    ]
    memory = [
        (result.label, float(result.peak_bytes), format_bytes(result.peak_bytes))
        for result in results
    ]
    return [
        part
        for part in (
            _bar_chart(
                "Latency",
                "median of the passes after the first of each case, which may compile; else the fastest",
                latency,
            ),
            _bar_chart("Memory", "peak memory of a backend's process", memory),
        )
        if part is not None
    ]


def _describe_latency(result: BackendResult) -> str:
    typical, slowest = typical_latency(result), slowest_pass(result)
    passes = f"{count_passes(result)} passes, the slowest {format_seconds(slowest)}"
    return f"{format_seconds(typical)}, {passes}"


def _bar_chart(
    title: str, description: str, values: Sequence[tuple[str, float | None, str]]
) -> Html | None:
    present = [(label, value, text) for label, value, text in values if value]
    if not present:
        return None
    largest = max(value for _, value, _ in present)
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            tag("td", tag("span", class_="bar", style=f"width:{max(value / largest, 0.004):.1%}")),
            tag("td", text),
        )
        for label, value, text in present
    ]
    caption = tag("caption", title, tag("span", f" — {description}", class_="soft"))
    return tag("table", caption, tag("tbody", rows), class_="bars")
