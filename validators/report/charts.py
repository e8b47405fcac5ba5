"""Charts of a report, drawn as SVG that scales with the page and takes its colours from the style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from equipoise.validators.report.figures import figure, power
from equipoise.validators.report.markup import Html, tag
from equipoise.validators.result import Depth
from equipoise.validators.verdict import BINS


def histogram(label: str, errors: Sequence[int], noise: Sequence[int]) -> Html | None:
    """How many values are off by how much, with the reference's own errors behind.

    Args:
        label: The backend.
        errors: Its counts, one for each of :data:`BINS`.
        noise: The reference's.
    """
    used = [index for index, pair in enumerate(zip(errors, noise, strict=True)) if any(pair)]
    if not used:
        return None
    bins = range(used[0], used[-1] + 1)
    width, height, left, bottom = 440, 230, 44, 34
    step = (width - left - 8) / len(bins)
    top = math.log10(max(*errors, *noise)) + 0.4
    room = height - bottom - 14

    def tall(count: int) -> float:
        return (math.log10(count) + 0.4) / top * room if count else 0.0

    parts: list[Html] = []
    for decade in range(math.floor(top) + 1):
        y = height - bottom - (decade + 0.4) / top * room
        parts += [
            _line(left, y, width - 8, y, "grid"),
            _text(left - 6, y + 4, _count(decade), "end"),
        ]
    for place, index in enumerate(bins):
        x = left + place * step
        parts += [
            _bar(x + step * 0.08, step * 0.84, height - bottom, tall(noise[index]), "noise"),
            _bar(x + step * 0.26, step * 0.48, height - bottom, tall(errors[index]), "error"),
            tag(
                "rect",
                tag("title", f"{_between(index)}: {errors[index]} here, {noise[index]} reference"),
                **{"class": "hit", "x": f"{x:.1f}", "y": 0, "width": f"{step:.1f}"},
                height=height - bottom,
            ),
        ]
        if len(bins) <= 9 or place % 2 == 0:
            parts.append(_text(x, height - bottom + 16, _edge(index)))
    if bins[-1] + 1 < len(BINS) and (len(bins) <= 9 or len(bins) % 2 == 0):
        parts.append(_text(width - 12, height - bottom + 16, _edge(bins[-1] + 1)))
    parts.append(_line(left, height - bottom, width - 8, height - bottom, "axis"))
    parts.append(_text((left + width) / 2, height - 3, "absolute error"))
    return _svg(width, height, f"Absolute errors of {label} by power of ten, and the noise", parts)


def _bar(x: float, width: float, base: float, height: float, css: str) -> Html:
    return tag(
        "rect",
        class_=css,
        x=f"{x:.1f}",
        y=f"{base - height:.1f}",
        width=f"{width:.1f}",
        height=f"{height:.1f}",
    )


def _edge(index: int) -> str:
    """The lower edge of a bin; the first one holds all that is smaller, exact values too."""
    return "0" if index == 0 else power(BINS[index])


def _between(index: int) -> str:
    upper = "more" if index == len(BINS) - 1 else power(BINS[index] + 1)
    return f"{_edge(index)} to {upper}"


def _count(decade: int) -> str:
    return str(10**decade) if decade < 5 else power(decade)


def depth(label: str, points: Sequence[Depth], first: str | None = None) -> Html | None:
    """Relative error and noise of one module after the other; ``first`` is the one to be marked."""
    if not points:
        return None
    width, height, left, bottom, right, upper = 660, 250, 48, 40, 14, 22
    scale = _Scale.of(points, upper, height - bottom)
    step = (width - left - right) / max(len(points), 1)
    xs = [left + step * (index + 0.5) for index in range(len(points))]
    parts = _bands(points, left, step, upper, height - bottom)
    for y, text in scale.ticks():
        parts += [_line(left, y, width - right, y, "grid"), _text(left - 6, y + 4, text, "end")]
    for css, values in (("noise", [p.noise for p in points]), ("error", [p.error for p in points])):
        ys = [scale.y(value) for value in values]
        parts.append(tag("polyline", class_=css, points=_joined(xs, ys)))
        if len(points) <= 120:
            parts += [_dot(x, y, css) for x, y in zip(xs, ys, strict=True)]
    marked = [index for index, point in enumerate(points) if point.path == first]
    for index in marked[-1:]:
        y = scale.y(points[index].error)
        parts += _mark(xs[index], y, upper, height - bottom, points[index].path, width)
    parts += [
        _hit(x, step, point, upper, height - bottom) for x, point in zip(xs, points, strict=True)
    ]
    parts.append(_line(left, height - bottom, width - right, height - bottom, "axis"))
    parts.append(_text((left + width) / 2, height - 4, "modules, in the order in which they end"))
    title = f"Relative error of {label} in {len(points)} modules along the depth, and the noise"
    return _svg(width, height, title, parts)


class _Scale:
    """A log axis; zeros lie a step below the smallest figure, what is not finite a step above the largest."""

    def __init__(self, low: int, high: int, zero: bool, odd: bool, top: float, base: float) -> None:
        self.low, self.high, self.zero, self.odd = low - zero, high + odd, zero, odd
        self.top, self.base = top, base

    @classmethod
    def of(cls, points: Sequence[Depth], top: float, base: float) -> _Scale:
        values = [value for point in points for value in (point.error, point.noise)]
        logs = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
        low, high = math.floor(min(logs, default=-8)), math.ceil(max(logs, default=-6))
        odd = any(not math.isfinite(value) for value in values)
        return cls(low, max(high, low + 1), 0.0 in values, odd, top, base)

    def y(self, value: float) -> float:
        if not math.isfinite(value):
            place = float(self.high)
        else:
            place = math.log10(value) if value > 0 else float(self.low)
        return self.base - (place - self.low) / (self.high - self.low) * (self.base - self.top)

    def ticks(self) -> list[tuple[float, str]]:
        every = max(1, math.ceil((self.high - self.low) / 7))
        found = []
        for exponent in range(self.low, self.high + 1):
            name = "0" if self.zero and exponent == self.low else power(exponent)
            name = "NaN, ∞" if self.odd and exponent == self.high else name
            if not name.startswith("10") or (exponent - self.low) % every == 0:
                share = (exponent - self.low) / (self.high - self.low)
                found.append((self.base - share * (self.base - self.top), name))
        return found


def _bands(
    points: Sequence[Depth], left: float, step: float, top: float, base: float
) -> list[Html]:
    """Blocks of the model behind the lines: every other one shaded, named where there is room."""
    parts, start = [], 0
    for number, (key, group) in enumerate(groupby(points, lambda point: _block(point.path))):
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
            parts.append(_text(x + wide / 2, base + 15, fitting[0]))
    return parts


def _block(path: str) -> str:
    """The block that a module is in: up to the first number of its path, or its first two names.

    >>> _block("bert.encoder.layer.1.attention.self"), _block("bert.pooler.dense"), _block("classifier")
    ('bert.encoder.layer.1', 'bert.pooler', 'classifier')
    """
    parts = path.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1] if numbers else parts[:2])


def _mark(x: float, y: float, top: float, base: float, name: str, width: float) -> list[Html]:
    anchor = "start" if x < width / 3 else "end" if x > width * 2 / 3 else "middle"
    shown = name if len(name) < 56 else "…" + name[-54:]
    return [
        _line(x, top - 4, x, base, "first"),
        tag("circle", class_="first", cx=f"{x:.1f}", cy=f"{y:.1f}", r=6),
        _text(x, top - 8, f"first beyond noise: {shown}", anchor, "first"),
    ]


def _hit(x: float, step: float, point: Depth, top: float, base: float) -> Html:
    name = point.path or "(the whole model)"
    text = f"{name}: error {figure(point.error)}, noise {figure(point.noise)}"
    place = {"x": f"{x - step / 2:.1f}", "width": f"{step:.1f}"}
    return tag("rect", tag("title", text), class_="hit", y=top, height=base - top, **place)


def _joined(xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _dot(x: float, y: float, css: str) -> Html:
    return tag("circle", class_=css, cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5)


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Html:
    return tag("line", class_=css, x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}")


def _text(x: float, y: float, text: str, anchor: str = "middle", css: str | None = None) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=css)


def _svg(width: int, height: int, title: str, parts: Sequence[Html]) -> Html:
    return tag(
        "svg",
        tag("title", title),
        list(parts),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
    )
