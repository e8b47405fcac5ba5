"""The report of a fleet as one HTML page: charts, filters, a row a job; it needs no network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from equipoise.fleet.report.rows import WORST_FIRST, Row
from equipoise.validators.report.html.markup import Html, document, tag

_FOLDER = Path(__file__).parent
_MOST_BARS = 12
"""How many model types or problems a chart shows."""
_ROWS_IN_A_BLOCK = 100


def to_html(rows: Sequence[Row], page: Path) -> str:
    """Returns the page of a fleet.

    Args:
        rows: The jobs, in the order in which they are shown.
        page: Where the page will lie; links are relative to it.
    """
    script = (_FOLDER / "filter.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return document(
        f"{len(rows)} jobs",
        policy,
        (_FOLDER / "page.css").read_text(encoding="utf-8"),
        tag("h1", f"{len(rows)} jobs"),
        _bar(Counter(row.status for row in rows), label="jobs by status"),
        tag("p", [(_badge(status), f" {count}  ") for status, count in _counts(rows)]),
        tag("div", _charts(rows), class_="charts"),
        _filters(rows),
        _heading(),
        _blocks([_line(row, page) for row in rows]),
        tag("script", Html(script)),
    )


def _counts(rows: Sequence[Row]) -> list[tuple[str, int]]:
    found = Counter(row.status for row in rows)
    return [(status, found[status]) for status in WORST_FIRST if found[status]]


def _badge(status: str) -> Html:
    return tag("span", status, class_=f"badge {status}")


def _bar(found: Counter[str], *, largest: int = 0, label: str | None = None) -> Html:
    """Returns a bar with a part for each status.

    Args:
        found: How many there are of each.
        largest: The number that is shown as the whole width; 0: all that were found.
        label: What it shows, for those who do not see it.
    """
    total = sum(found.values()) or 1
    parts = [
        tag(
            "span",
            class_=status,
            style=f"width:{100 * found[status] / total:.2f}%",
            title=f"{status}: {found[status]}",
        )
        for status in WORST_FIRST
        if found[status]
    ]
    return tag(
        "div",
        parts,
        class_="bar",
        style=f"width:{100 * total / largest:.2f}%" if largest else None,
        role="img" if label else None,
        aria_label=label,
    )


def _charts(rows: Sequence[Row]) -> list[Html]:
    """Returns the charts by model type, backend and problem, those with most that is not ok first."""
    backends = [
        (name, _tone(verdict)) for row in rows for name, verdict in (row.backends or {}).items()
    ]
    groups = {
        "By model type": [(row.model_type, row.status) for row in rows if row.model_type],
        "By backend": backends,
        "By problem": [(row.problem, row.status) for row in rows if row.problem],
    }
    return [
        tag("section", tag("h2", title), _chart(pairs)) for title, pairs in groups.items() if pairs
    ]


def _tone(verdict: str) -> str:
    """Returns the status that a backend's verdict is shown as."""
    return {"diverged": "difference", "failed": "failed", "decision-safe": "difference"}.get(
        verdict, "ok"
    )


def _chart(pairs: Sequence[tuple[str, str]]) -> Html:
    groups: dict[str, Counter[str]] = {}
    for name, status in pairs:
        groups.setdefault(name, Counter())[status] += 1

    def not_ok(name: str) -> tuple[int, int]:
        return -(groups[name].total() - groups[name]["ok"]), -groups[name].total()

    names = sorted(groups, key=not_ok)
    largest = max(group.total() for group in groups.values())
    lines = [
        tag(
            "tr",
            tag("th", tag("span", name, title=name), scope="row"),
            tag("td", groups[name].total()),
            tag("td", _bar(groups[name], largest=largest)),
        )
        for name in names[:_MOST_BARS]
    ]
    more = len(names) - _MOST_BARS
    return tag(
        "table",
        lines,
        tag("caption", f"and {more} more") if more > 0 else None,
    )


def _filters(rows: Sequence[Row]) -> Html:
    choices: dict[str, Callable[[Row], Sequence[str]]] = {
        "status": lambda row: [row.status],
        "type": lambda row: [row.model_type],
        "kind": lambda row: [row.kind],
        "backend": lambda row: list(row.backends or ()),
    }
    fields = []
    for name, values in choices.items():
        known = sorted({value for row in rows for value in values(row) if value})
        if len(known) > 1:
            options = [
                tag("option", f"every {name}", value=""),
                [tag("option", one) for one in known],
            ]
            fields.append(tag("select", options, name=name, aria_label=name))
    words = tag(
        "input",
        name="words",
        type="search",
        placeholder="words in a row",
        aria_label="words in a row",
    )
    return tag("form", fields, words, tag("output"))


def _heading() -> Html:
    names = ("status", "source", "model type", "task, target", "verdict or problem", "seconds")
    return tag("div", [tag("span", name) for name in names], class_="row head")


def _blocks(lines: Sequence[Html]) -> list[Html]:
    """Returns the rows in blocks: a browser lays out only those blocks that are seen."""
    starts = range(0, len(lines), _ROWS_IN_A_BLOCK)
    return [tag("div", lines[start : start + _ROWS_IN_A_BLOCK], class_="block") for start in starts]


def _line(row: Row, page: Path) -> Html:
    backends = [f"{name}: {verdict}" for name, verdict in (row.backends or {}).items()]
    outcome = row.problem or "; ".join(backends) or row.verdict
    # Its beginning keeps a folder's name from being read as a scheme.
    link = f"./{quote(os.path.relpath(row.link, page.parent))}" if row.link else None
    source = tag("a", row.source, href=link) if link else tag("span", row.source)
    text = f"{row.source} {row.model_type} {row.kind} {outcome} {row.key}".lower()
    return tag(
        "div",
        tag("span", _badge(row.status)),
        source,
        tag("span", row.model_type),
        tag("span", row.kind),
        tag("span", outcome),
        tag("span", f"{row.seconds:.1f}" if row.seconds else ""),
        class_="row",
        data_status=row.status,
        data_type=row.model_type,
        data_kind=row.kind,
        data_backends=" ".join(row.backends or ()),
        data_text=text,
    )
