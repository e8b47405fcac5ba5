"""The section of a model card on converted weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_BEGIN, _END = "<!-- equipoise: begin -->", "<!-- equipoise: end -->"
_SECTION = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END) + r"\n?", re.DOTALL)


def card_section(
    manifest: Mapping[str, Any],
    software: Mapping[str, str],
    verdicts: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Returns the section: what was converted, the verdicts, and how to check both.

    Args:
        manifest: The content of ``equipoise.json``.
        software: Names of distributions and their versions.
        verdicts: Task, backend and verdict of each validation of the same source.
    """
    source, target = manifest["source"], manifest["target"]
    names = ", ".join(f"`{name}`" for name in sorted(target["files"]))
    origin = ", ".join(f"`{name}`" for name in sorted(source["files"]))
    rows = [f"| `{name}` | `{_sha256(facts)}` |" for name, facts in sorted(target["files"].items())]
    lines = [
        _BEGIN,
        f"## Weights for {manifest['route'][-1]}",
        "",
        f"{names}: converted from {origin} by equipoise {software.get('equipoise', '')}, {_casts(manifest)}.",
        "",
        "| file | SHA-256 |",
        "|---|---|",
        *rows,
        "",
    ]
    if verdicts:
        table = [f"| {task} | {backend} | {verdict} |" for task, backend, verdict in verdicts]
        lines += ["| task | backend | verdict |", "|---|---|---|", *table, ""]
    lines += [
        "`equipoise.json` has the hash of every tensor. To check it again:",
        "",
        "    pip install equipoise",
        "    equipoise verify FOLDER",
        "    equipoise diff SOURCE FOLDER",
        _END,
    ]
    return "\n".join(lines) + "\n"


def with_section(card: str, section: str) -> str:
    r"""Returns a model card with a section, in place of an earlier one or at its end.

    >>> with_section("# Model\n", "<!-- equipoise: begin -->\nnew\n<!-- equipoise: end -->\n")
    '# Model\n\n<!-- equipoise: begin -->\nnew\n<!-- equipoise: end -->\n'
    """
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    return f"{card.rstrip()}\n\n{section}" if card.strip() else section


def _sha256(facts: Any) -> str:
    return str(facts["sha256"] if isinstance(facts, Mapping) else facts)


def _casts(manifest: Mapping[str, Any]) -> str:
    return (
        f"floating-point tensors cast to {manifest['dtype']}"
        if manifest.get("dtype")
        else "bit for bit"
    )
