"""Bar charts of latency and memory of all backends."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.judgement.results import Report
from equipoise.validators.report.html.markup import Html, tag
from equipoise.validators.report.html.statistics import (
    count_passes,
    format_bytes,
    format_seconds,
    median_latency,
)


def latency_memory_charts(report: Report) -> list[Html]:
    """Returns both charts; omits one without values."""
    ran = [one for one in (*report.backends, report.reference) if one.cases]
    speed = [
        (
            one.label,
            median_latency(one),
            f"{format_seconds(median_latency(one))}, {count_passes(one)} passes",
        )
        for one in ran
    ]
    memory = [(one.label, float(one.peak_bytes), format_bytes(one.peak_bytes)) for one in ran]
    return [
        part
        for part in (
            _bar_chart("Latency", "median of all passes", speed),
            _bar_chart("Memory", "the most that a backend's process held", memory),
        )
        if part is not None
    ]


def _bar_chart(
    title: str, about: str, values: Sequence[tuple[str, float | None, str]]
) -> Html | None:
    known = [(label, value, text) for label, value, text in values if value]
    if not known:
        return None
    most = max(value for _, value, _ in known)
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            tag("td", tag("span", class_="bar", style=f"width:{max(value / most, 0.004):.1%}")),
            tag("td", text),
        )
        for label, value, text in known
    ]
    caption = tag("caption", title, tag("span", f" — {about}", class_="soft"))
    return tag("table", caption, tag("tbody", rows), class_="bars")
