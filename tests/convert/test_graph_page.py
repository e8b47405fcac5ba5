"""docs/graph.md draws the graph as it is, and names a judge for each of its edges."""

from __future__ import annotations

import re
from pathlib import Path

from equipoise.convert.conversion.routes import route_edges, to_mermaid

PAGE = (Path(__file__).parents[2] / "docs" / "graph.md").read_text(encoding="utf-8")


def test_the_drawing_is_what_routes_prints() -> None:
    (drawing,) = re.findall(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL)
    assert drawing == to_mermaid()


def test_each_edge_has_a_judge() -> None:
    rows = re.findall(r"^\| ([\w-]+), ([\w-]+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    judged = {frozenset(row[:2]) for row in rows if row[2].strip() and row[3].strip()}
    assert judged == {frozenset((edge.source, edge.target)) for edge in route_edges()}
