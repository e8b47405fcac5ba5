"""Writes ``docs/architectures.md``: every class of every model type, in both directions, and how it was verified."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google_loaders import page_lines

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "fixtures" / "architectures.json"
PAGE = ROOT / "docs" / "architectures.md"

SHOWN = "architecture"
"""Name of the test property that holds the findings."""

LAYOUTS = {"tensorflow": "TensorFlow", "flax": "Flax"}
HEAD = """# Architectures

The TensorFlow and Flax classes of transformers 4.57.6, written by `pytest tests/oracle/test_families.py --write-architectures`
from what those tests found.

- **a number**: Equipoise converted PyTorch's weights, and the class of 4.57.6 loaded the file with nothing missing and nothing unexpected. The number is the
  largest error of all float outputs relative to the largest magnitude of PyTorch's, the worst over all configurations of the class. Then the class
  saved its weights, and Equipoise converted that file back to PyTorch, bit for bit.
- **values**: the same without comparing outputs, for the reason below: names, shapes and values, in both directions.
- **refused**: the class cannot hold the model, and the conversion says so, for the reason below.
- a dash: 4.57.6 has no such class.

Each class is listed with the configurations of [fixtures/configs](../fixtures/configs) that it was tried under.

For the classes that have both, TensorFlow -> Flax was compared with PyTorch -> Flax, bit for bit.
"""


def key(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Returns what identifies a finding: type, class, layout and configuration."""
    return row["type"], row["class"], row["layout"], row["config"]


def expected_keys() -> set[tuple[str, str, str, str]]:
    """Returns the keys of all expected findings."""
    from cases import cases

    return {
        (case.spec.model_type, case.cls.name, layout, case.config)
        for case in cases()
        for layout in LAYOUTS
        if layout in case.cls.names
    }


def write(rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds findings or replaces earlier ones, and writes the page."""
    every = {key(row): dict(row) for row in (*read(), *rows)}
    stored = [every[one] for one in sorted(expected_keys()) if one in every]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in stored)
    RESULTS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    PAGE.write_text(page(stored), encoding="utf-8")


def read() -> list[dict[str, Any]]:
    """Returns the stored findings."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def page(rows: list[dict[str, Any]]) -> str:
    """Returns the text of the page for the findings."""
    classes: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        one = classes.setdefault((row["type"], row["class"]), {})
        one.setdefault(row["layout"], []).append(row)
    left = len(expected_keys() - {key(row) for row in rows})
    head = (
        f"{HEAD}\nThe page is not complete: {left} cases of the suite are not in it yet.\n"
        if left
        else HEAD
    )
    lines = [head, *_summary(classes), "", *_table(classes), "", *_reasons(rows), "", *page_lines()]
    return "\n".join(lines) + "\n"


def _summary(classes: Mapping[Any, Mapping[str, list[dict[str, Any]]]]) -> list[str]:
    lines = [
        "| | classes | by outputs | by values alone | largest error | both ways with the other |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for layout, title in LAYOUTS.items():
        own = [found[layout] for found in classes.values() if layout in found]
        ran = [rows for rows in own if any(row["how"] == "forward" for row in rows)]
        compared = [rows for rows in own if any(row["how"] == "values" for row in rows)]
        errors = [row["error"] for rows in own for row in rows if "error" in row]
        both = sum(len(found) == 2 for found in classes.values())
        values = len([rows for rows in compared if rows not in ran])
        cells = (title, len(own), len(ran), values, f"{max(errors, default=0):.1e}", both)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _table(classes: Mapping[Any, Mapping[str, list[dict[str, Any]]]]) -> list[str]:
    """Returns one row a model type, with its classes one below the other."""
    by_type: dict[str, list[str]] = {}
    for (model_type, name), found in sorted(classes.items()):
        configs = sorted({row["config"] for rows in found.values() for row in rows})
        results = " / ".join(_cell(found.get(layout, [])) for layout in LAYOUTS)
        by_type.setdefault(model_type, []).append(f"{name} ({', '.join(configs)}): {results}")
    lines = [
        f"| model type | class (configurations): {' / '.join(LAYOUTS.values())} |",
        "| --- | --- |",
    ]
    return lines + [f"| {name} | {'<br>'.join(cells)} |" for name, cells in by_type.items()]


def _cell(rows: list[dict[str, Any]]) -> str:
    """Returns the worst error of a class's configurations, and what else there was."""
    errors = [row["error"] for row in rows if row["how"] == "forward"]
    found = [f"{max(errors):.1e}"] if errors else []
    found += [how for how in ("values", "refused") if any(row["how"] == how for row in rows)]
    return ", ".join(found) or "-"


def _reasons(rows: list[dict[str, Any]]) -> list[str]:
    """Returns one row a reason, with the classes and configurations that it holds for."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        if "reason" in row:
            classes = found.setdefault((row["how"], row["reason"]), {})
            classes.setdefault(row["name"], []).append(row["config"])
    lines = [
        "## Reasons",
        "",
        "| what was done | why | class (configurations) |",
        "| --- | --- | --- |",
    ]
    for (how, reason), classes in sorted(found.items()):
        listed = ", ".join(f"{name} ({', '.join(configs)})" for name, configs in classes.items())
        lines.append(f"| {how} | {reason} | {listed} |")
    return lines
