"""Parts of charts. A chart scales with the page and takes its colours from the style."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.report.html.markup import Html, tag


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Html:
    """A straight line."""
    return tag("line", class_=css, x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}")


def text(x: float, y: float, text: str, anchor: str = "middle", css: str | None = None) -> Html:
    """A word at a place."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=css)


def svg(width: int, height: int, title: str, parts: Sequence[Html]) -> Html:
    """The chart; its title is what those hear who do not see it."""
    return tag(
        "svg",
        tag("title", title),
        list(parts),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
    )
