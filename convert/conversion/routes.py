"""The graph of layouts: nodes are layouts, edges are rule sets, a route is the shortest path.

Every packaged layout describes itself against PyTorch's, so each has an edge to ``pytorch`` and back. A layout
module may name another neighbour with ``VIA``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.layouts import layout_module, layout_names
from equipoise.convert.layouts.base import Format

HUB_LAYOUT = "pytorch"


@dataclass(frozen=True)
class RouteEdge:
    """Rules lead from one layout to another."""

    source: str
    target: str


def route_edges() -> tuple[RouteEdge, ...]:
    """All edges, both ways."""
    found = []
    for name in layout_names():
        if name == HUB_LAYOUT:
            continue
        near = getattr(layout_module(name), "VIA", HUB_LAYOUT)
        found += [RouteEdge(name, near), RouteEdge(near, name)]
    return tuple(found)


def find_route(source: str, target: str) -> tuple[str, ...]:
    """The layouts on the shortest way, both ends included.

    Raises:
        CheckpointError: There is no way.
    """
    queue: deque[tuple[str, ...]] = deque([(source,)])
    seen = {source}
    while queue:
        path = queue.popleft()
        if path[-1] == target:
            return path
        for edge in route_edges():
            if edge.source == path[-1] and edge.target not in seen:
                seen.add(edge.target)
                queue.append((*path, edge.target))
    raise CheckpointError(f"no route from {source!r} to {target!r}", expected=list(layout_names()))


def all_formats() -> dict[str, tuple[str, Format]]:
    """Every format by name, with its layout."""
    return {
        name: (layout, form)
        for layout in layout_names()
        for name, form in layout_module(layout).FORMATS.items()
    }


def find_format(name: str) -> tuple[str, Format]:
    """The layout and format for a format's name, or for a layout's name: its usual one.

    Raises:
        CheckpointError: There is none, or we cannot write it.
    """
    if name in layout_names():
        return name, next(iter(layout_module(name).FORMATS.values()))
    known = all_formats()
    if name not in known or not known[name][1].writable:
        writable = [key for key, (_, form) in known.items() if form.writable]
        raise CheckpointError(
            f"cannot write {name!r}" if name in known else f"unknown format {name!r}",
            expected=", ".join([*layout_names(), *writable]),
        )
    return known[name]


def to_mermaid() -> str:
    """The graph as a mermaid diagram: layouts as nodes, their formats beneath."""
    lines = ["graph LR"]
    for layout in layout_names():
        names = "<br/>".join(layout_module(layout).FORMATS)
        lines.append(f'    {layout}["<b>{layout}</b><br/>{names}"]')
    pairs = {tuple(sorted((edge.source, edge.target))) for edge in route_edges()}
    lines += [f"    {first} <--> {second}" for first, second in sorted(pairs)]
    return "\n".join(lines)
