"""The graph of layouts: nodes are layouts, edges are sets of rules, a route is a shortest path.

Every packaged layout has rules from and to ``pytorch``, so each has edges both ways. A layout module may name
another neighbour with ``VIA``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.hints import did_you_mean
from equipoise.convert.layouts import layout_module, layout_names
from equipoise.convert.layouts.base import Format

HUB_LAYOUT = "pytorch"


@dataclass(frozen=True)
class RouteEdge:
    """An edge: there are rules from one layout to another."""

    source: str
    target: str


def route_edges() -> tuple[RouteEdge, ...]:
    """Returns all edges, in both directions."""
    found = []
    for name in layout_names():
        if name == HUB_LAYOUT:
            continue
        neighbour = getattr(layout_module(name), "VIA", HUB_LAYOUT)
        found += [RouteEdge(name, neighbour), RouteEdge(neighbour, name)]
    return tuple(found)


def find_route(source: str, target: str) -> tuple[str, ...]:
    """Returns the layouts on the shortest path, both ends included.

    Raises:
        CheckpointError: There is no path.
    """
    queue: deque[tuple[str, ...]] = deque([(source,)])
    visited = {source}
    while queue:
        path = queue.popleft()
        if path[-1] == target:
            return path
        for edge in route_edges():
            if edge.source == path[-1] and edge.target not in visited:
                visited.add(edge.target)
                queue.append((*path, edge.target))
    raise CheckpointError(f"no route from {source!r} to {target!r}", expected=list(layout_names()))


def all_formats() -> dict[str, tuple[str, Format]]:
    """Returns format name -> (layout, format)."""
    return {
        name: (layout, target_format)
        for layout in layout_names()
        for name, target_format in layout_module(layout).FORMATS.items()
    }


PROGRAMS = frozenset(
    ("onnx", "torchscript", "torch-export", "stablehlo", "jax", "saved-model", "tflite", "pt2")
)
"""Names of programs, which a checkpoint is not converted to."""

_EXPORT_INSTEAD = "a program is made from a model by `equipoise export MODEL OUTPUT --to ...`"


def find_format(name: str) -> tuple[str, Format]:
    """Returns the layout and format for the name of a format, or of a layout: its default format.

    Raises:
        CheckpointError: There is no such format, or it cannot be written.
    """
    if name in layout_names():
        return name, next(iter(layout_module(name).FORMATS.values()))
    known = all_formats()
    if name not in known or not known[name][1].writable:
        writable = [key for key, (_, target_format) in known.items() if target_format.writable]
        expected = [*dict.fromkeys([*layout_names(), *writable])]
        raise CheckpointError(
            f"cannot write {name!r}" if name in known else f"unknown format {name!r}",
            expected=", ".join(expected),
            hint=_EXPORT_INSTEAD if name in PROGRAMS else did_you_mean(name, expected),
        )
    return known[name]


def to_mermaid() -> str:
    """Returns the graph as a mermaid diagram with layouts as nodes that list their formats."""
    lines = ["graph LR"]
    for layout in layout_names():
        names = "<br/>".join(layout_module(layout).FORMATS)
        lines.append(f'    {layout}["<b>{layout}</b><br/>{names}"]')
    pairs = {tuple(sorted((edge.source, edge.target))) for edge in route_edges()}
    lines += [f"    {first} <--> {second}" for first, second in sorted(pairs)]
    return "\n".join(lines)
