"""Elements of charts in SVG. A chart scales with the page and takes its colours from the stylesheet."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.report.html.markup import Html, tag


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Html:
    """Returns a straight line."""
    return tag("line", class_=css, x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}")


def text(x: float, y: float, text: str, anchor: str = "middle", css: str | None = None) -> Html:
    """Returns a text at a position."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=css)


def svg(width: int, height: int, title: str, parts: Sequence[Html]) -> Html:
    """Returns a chart; screen readers read its title."""
    return tag(
        "svg",
        tag("title", title),
        list(parts),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
    )
