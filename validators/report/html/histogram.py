"""A histogram of absolute errors by power of ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.validators.judgement.results import HISTOGRAM_EDGES
from equipoise.validators.report.html.markup import Html, tag
from equipoise.validators.report.html.statistics import format_power
from equipoise.validators.report.html.svg import line, svg, text

WIDTH, LEFT, RIGHT = 440, 44, 432
HEIGHT, BASE = 230, 196

MIN_BAR_HEIGHT = 0.4
"""Decades below 1 at which the axis of counts begins, so that a count of 1 is visible."""


def histogram_chart(label: str, errors: Sequence[int], noise: Sequence[int]) -> Html | None:
    """Draws how many values have an error of which size, in front of the reference's own errors.

    Args:
        label: Name of the backend.
        errors: Its counts, one for each of :data:`HISTOGRAM_EDGES`.
        noise: The counts of the reference.
    """
    used = [index for index, pair in enumerate(zip(errors, noise, strict=True)) if any(pair)]
    if not used:
        return None
    plot = _Plot(used[0], used[-1] + 1, math.log10(max(*errors, *noise)) + MIN_BAR_HEIGHT)
    parts = plot.grid()
    for index in range(plot.first, plot.end):
        title = f"{_bin_label(index)}: {errors[index]} here, {noise[index]} reference"
        parts += [
            plot.bar(index, 0.84, noise[index], "noise"),
            plot.bar(index, 0.48, errors[index], "error"),
            plot.hover_area(index, title),
        ]
    parts += [line(LEFT, BASE, RIGHT, BASE, "axis"), *plot.edge_labels()]
    parts.append(text((LEFT + WIDTH) / 2, HEIGHT - 3, "absolute error"))
    return svg(WIDTH, HEIGHT, f"Absolute errors of {label} by power of ten, and the noise", parts)


@dataclass(frozen=True)
class _Plot:
    """The axes of a histogram.

    Attributes:
        first: Index of the first bin.
        end: Index after the last bin.
        decades: Length of the axis of counts.
    """

    first: int
    end: int
    decades: float

    @property
    def step(self) -> float:
        """Width of one bin."""
        return (RIGHT - LEFT) / (self.end - self.first)

    def x(self, edge: int) -> float:
        """Returns the x coordinate where a bin begins."""
        return LEFT + (edge - self.first) * self.step

    def bar_height(self, decade: float) -> float:
        """Returns the height of a count, given as its logarithm."""
        return (decade + MIN_BAR_HEIGHT) / self.decades * (BASE - 14)

    def grid(self) -> list[Html]:
        """Draws a line at 1, 10, 100 ..."""
        parts = []
        for decade in range(math.floor(self.decades - MIN_BAR_HEIGHT) + 1):
            y = BASE - self.bar_height(decade)
            name = str(10**decade) if decade < 5 else format_power(decade)
            parts += [line(LEFT, y, RIGHT, y, "grid"), text(LEFT - 6, y + 4, name, "end")]
        return parts

    def bar(self, index: int, share: float, count: int, css: str) -> Html:
        """Draws a bar in the middle of its bin."""
        height = self.bar_height(math.log10(count)) if count else 0.0
        return tag(
            "rect",
            class_=css,
            x=f"{self.x(index) + self.step * (1 - share) / 2:.1f}",
            y=f"{BASE - height:.1f}",
            width=f"{self.step * share:.1f}",
            height=f"{height:.1f}",
        )

    def hover_area(self, index: int, title: str) -> Html:
        """Returns an invisible rectangle over the bin, whose tooltip shows its counts."""
        extent = {"x": f"{self.x(index):.1f}", "width": f"{self.step:.1f}"}
        return tag("rect", tag("title", title), class_="hit", y=0, height=BASE, **extent)

    def edge_labels(self) -> list[Html]:
        """Labels the edges of bins with powers of ten; only every other one if there are many."""
        label_step = 1 if self.end - self.first <= 9 else 2
        shown = range(self.first, min(self.end + 1, len(HISTOGRAM_EDGES)), label_step)
        return [text(min(self.x(edge), RIGHT - 4), BASE + 16, _edge_label(edge)) for edge in shown]


def _edge_label(index: int) -> str:
    """Returns the lower edge of a bin; the first bin contains all smaller values, also zero."""
    return "0" if index == 0 else format_power(HISTOGRAM_EDGES[index])


def _bin_label(index: int) -> str:
    upper = (
        "more" if index == len(HISTOGRAM_EDGES) - 1 else format_power(HISTOGRAM_EDGES[index] + 1)
    )
    return f"{_edge_label(index)} to {upper}"
