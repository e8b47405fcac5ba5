"""A line chart of the error of each module along the depth of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from equipoise.validators.judgement.results import ModuleError
from equipoise.validators.report.html.markup import Html, tag
from equipoise.validators.report.html.statistics import format_number, format_power
from equipoise.validators.report.html.svg import line, svg
from equipoise.validators.report.html.svg import text as svg_text


def error_by_depth_chart(
    label: str, points: Sequence[ModuleError], first: str | None = None
) -> Html | None:
    """Draws relative error and noise of all modules; ``first`` is the path of the module to highlight."""
    if not points:
        return None
    width, height, left, bottom, right, upper = 660, 250, 48, 40, 14, 22
    scale = _Scale.of(points, upper, height - bottom)
    step = (width - left - right) / max(len(points), 1)
    xs = [left + step * (index + 0.5) for index in range(len(points))]
    parts = _block_bands(points, left, step, upper, height - bottom)
    for y, text in scale.ticks():
        parts += [line(left, y, width - right, y, "grid"), svg_text(left - 6, y + 4, text, "end")]
    for css, values in (("noise", [p.noise for p in points]), ("error", [p.error for p in points])):
        ys = [scale.y(value) for value in values]
        parts.append(tag("polyline", class_=css, points=_polyline_points(xs, ys)))
        if len(points) <= 120:
            parts += [_dot(x, y, css) for x, y in zip(xs, ys, strict=True)]
    marked = [index for index, point in enumerate(points) if point.path == first]
    for index in marked[-1:]:
        y = scale.y(points[index].error)
        parts += _divergence_mark(xs[index], y, upper, height - bottom, points[index].path, width)
    parts += [
        _hover_area(x, step, point, upper, height - bottom)
        for x, point in zip(xs, points, strict=True)
    ]
    parts.append(line(left, height - bottom, width - right, height - bottom, "axis"))
    parts.append(
        svg_text((left + width) / 2, height - 4, "modules, in the order in which they end")
    )
    title = f"Relative error of {label} in {len(points)} modules along the depth, and the noise"
    return svg(width, height, title, parts)


@dataclass(frozen=True)
class _Scale:
    """A logarithmic axis. Zeros are drawn one step below the smallest value, NaN and infinity one step above the largest.

    Attributes:
        low: Smallest exponent.
        high: Largest exponent.
        has_zero: Whether the lowest step stands for zero.
        has_nonfinite: Whether the highest step stands for NaN and infinity.
        top: y coordinate of the largest exponent.
        base: y coordinate of the smallest exponent.
    """

    low: int
    high: int
    has_zero: bool
    has_nonfinite: bool
    top: float
    base: float

    @classmethod
    def of(cls, points: Sequence[ModuleError], top: float, base: float) -> _Scale:
        """Returns the axis that contains all points, between two y coordinates."""
        values = [value for point in points for value in (point.error, point.noise)]
        logs = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
        low, high = math.floor(min(logs, default=-8)), math.ceil(max(logs, default=-6))
        has_zero, has_nonfinite = 0.0 in values, any(not math.isfinite(value) for value in values)
        return cls(
            low - has_zero, max(high, low + 1) + has_nonfinite, has_zero, has_nonfinite, top, base
        )

    def y(self, value: float) -> float:
        """Returns the y coordinate of a value."""
        if not math.isfinite(value):
            exponent = float(self.high)
        else:
            exponent = math.log10(value) if value > 0 else float(self.low)
        return self.base - (exponent - self.low) / (self.high - self.low) * (self.base - self.top)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns y coordinates and labels of the ticks."""
        label_step = max(1, math.ceil((self.high - self.low) / 7))
        ticks = []
        for exponent in range(self.low, self.high + 1):
            name = "0" if self.has_zero and exponent == self.low else format_power(exponent)
            name = "NaN, ∞" if self.has_nonfinite and exponent == self.high else name
            if not name.startswith("10") or (exponent - self.low) % label_step == 0:
                share = (exponent - self.low) / (self.high - self.low)
                ticks.append((self.base - share * (self.base - self.top), name))
        return ticks


def _block_bands(
    points: Sequence[ModuleError], left: float, step: float, top: float, base: float
) -> list[Html]:
    """Shades every other block of the model; adds the block's name if it fits."""
    parts, start = [], 0
    for number, (key, group) in enumerate(groupby(points, lambda point: _block_name(point.path))):
        count = len(list(group))
        x, wide = left + start * step, count * step
        start += count
        if number % 2 == 0:
            parts.append(
                tag(
                    "rect",
                    class_="band",
                    x=f"{x:.1f}",
                    y=top,
                    width=f"{wide:.1f}",
                    height=base - top,
                )
            )
        names = [".".join(key.split(".")[-2:]), key.split(".")[-1]]
        fitting = [name for name in names if len(name) * 6.6 + 4 <= wide]
        if fitting:
            parts.append(svg_text(x + wide / 2, base + 15, fitting[0]))
    return parts


def _block_name(path: str) -> str:
    """Returns the block of a module: its path up to the first number, or the first two names.

    >>> _block_name("bert.encoder.layer.1.attention.self"), _block_name("bert.pooler.dense"), _block_name("classifier")
    ('bert.encoder.layer.1', 'bert.pooler', 'classifier')
    """
    parts = path.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1] if numbers else parts[:2])


def _divergence_mark(
    x: float, y: float, top: float, base: float, name: str, width: float
) -> list[Html]:
    anchor = "start" if x < width / 3 else "end" if x > width * 2 / 3 else "middle"
    shown = name if len(name) < 56 else "…" + name[-54:]
    return [
        line(x, top - 4, x, base, "first"),
        tag("circle", class_="first", cx=f"{x:.1f}", cy=f"{y:.1f}", r=6),
        svg_text(x, top - 8, f"first beyond noise: {shown}", anchor, "first"),
    ]


def _hover_area(x: float, step: float, point: ModuleError, top: float, base: float) -> Html:
    name = point.path or "(the whole model)"
    text = f"{name}: error {format_number(point.error)}, noise {format_number(point.noise)}"
    extent = {"x": f"{x - step / 2:.1f}", "width": f"{step:.1f}"}
    return tag("rect", tag("title", text), class_="hit", y=top, height=base - top, **extent)


def _polyline_points(xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _dot(x: float, y: float, css: str) -> Html:
    return tag("circle", class_=css, cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5)
