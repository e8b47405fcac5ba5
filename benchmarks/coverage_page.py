"""Writes ``docs/coverage.md``: totals by verdict, and every failure with its reason.

    python benchmarks/coverage_page.py

``export_coverage.py``, ``derive_coverage.py`` and ``by_name.py`` also write the page when they finish. All figures are computed
from the JSON files in ``benchmarks/results``. Needs no framework.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from export_tasks import BASE_TASK, HEAD_CLASSES

from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.files.atomic import write_atomic

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "coverage.md"
CONFIGS = HERE / "export_configs.json"
RESULTS_BY_TARGET = {
    "ONNX": RESULTS / "export-coverage.json",
    "JAX program": RESULTS / "jax-coverage.json",
    "SavedModel": RESULTS / "saved-model-coverage.json",
}
BY_NAME = RESULTS / "by-name.json"
DERIVE = RESULTS / "derive-coverage.json"
TITLES = {"stablehlo": "JAX program", "saved-model": "SavedModel"}
JUDGED_VERDICTS = ("identical", "within noise")
MAX_REASON_CHARACTERS = 100
DERIVE_FAILURES = ("incomplete", "differs", "round trip", "failed", "not built", "unknown")

Results = dict[str, dict[str, Any]]
"""Results by model type, or by model type and task."""
Totals = dict[str, str]
"""Rows of a table of totals: label -> figure."""

PAGE_HEAD = """# Coverage

How many model types of transformers have a program by `equipoise export`, and an architecture file by `equipoise derive`. Written by
`benchmarks/coverage_page.py` from the JSON files under [benchmarks/results](../benchmarks/results), which hold every single result.
"""

EXPORT_HEAD = """## Programs

Tiny random models of transformers 5 (`benchmarks/export_configs.json`) are exported as `equipoise export` does, run on the traced batch and on another one,
and judged against PyTorch in float64: ONNX on ONNX Runtime with its graph optimizations and without, JAX programs by JAX
alone, SavedModels by TensorFlow alone (`benchmarks/export_coverage.py`). *Judged* is short for: the program is identical or within noise in all of that.
The second batch has one sample more and, where there are texts or waveforms, longer ones; where the model itself takes no other length or batch, it runs
as the model takes it. Weights that are all one number after initialization get noise: a router of zeros would choose experts by chance.
"""

DERIVE_HEAD = """## Architecture files by `equipoise derive`

Derived by `benchmarks/derive_coverage.py`, without edits to any file. Types that were complete were not derived again after the last changes to
`derive`; `own --again` and `types --again` run the others once more.

- **complete**: for the architecture files of Equipoise, the derived file needs the same tensors of the same shapes as Equipoise's own, for every class
  that transformers 5 still has and every config of `fixtures/configs`. For model types of transformers, every class is given exactly under every config that
  `derive` built it under, and random weights went from PyTorch to Flax's layout and back bit for bit.
- **as given**: complete for the given config alone, to Flax's layout and back included. For some module no expression over the config was found;
  `derive` writes it with the numbers of the given config, says so, and exits with 1.
- **incomplete**, **differs**: a name or shape differs. **round trip**: the way to Flax and back was refused or changed something.
- **failed**: it took more than 120 seconds of computing, or transformers 5 does not accept the config of `fixtures/`.
- **not built**, **unknown**: no class can be built on the meta device, or transformers 5 no longer has the type.
"""

BY_NAME_HEAD = """## Architectures by name

Folders as `save_pretrained` writes them (`fixtures/modern`: tiny random weights, tokenizers and processors of the architecture's own kind), exported with
`equipoise export FOLDER OUT --to TARGET` and judged on all cases of their task (`benchmarks/by_name.py`). Most of these
architectures never had a class in TensorFlow or Flax, or not in both.
"""


def render_page() -> str:
    """Returns the page as Markdown."""
    targets = {name: _read_json(path)["pairs"] for name, path in RESULTS_BY_TARGET.items()}
    types = len(_read_json(CONFIGS)["types"])
    parts = [
        PAGE_HEAD,
        EXPORT_HEAD,
        *_totals_table(targets, types),
        "",
        *_task_table(targets),
        "",
        *_failure_table(targets),
        "",
        BY_NAME_HEAD,
        *_by_name_section(_read_json(BY_NAME)),
        "",
        DERIVE_HEAD,
        *_derive_section(_read_json(DERIVE), {"own": len(spec_names()), "types": types}),
    ]
    return "\n".join(parts) + "\n"


def write_page() -> None:
    """Writes the page from the results."""
    write_atomic(PAGE, render_page())


def is_judged(result: Mapping[str, Any]) -> bool:
    """Checks whether a program was validated and passed."""
    return result["verdict"] in JUDGED_VERDICTS


def export_totals(results: Results, types: int) -> Totals:
    """Returns the totals of one target."""
    base = _select_task(results, BASE_TASK)
    ran = {key: one for key, one in base.items() if one["verdict"] != "does not run"}
    accepted = {key: one for key, one in ran.items() if "refused" not in one}
    judged = sum(is_judged(one) for one in accepted.values())
    right = {key: one for key, one in results.items() if is_judged(one)}
    changed = Counter(one["varies"] for one in right.values())
    return {
        "model types tried, of those in the list": f"{len(base)} of {types}",
        "run in PyTorch with these inputs, with the same outputs every time": str(len(ran)),
        "of those, `torch.export` accepts (plainly, or as transformers calls it)": str(
            len(accepted)
        ),
        "of those, judged": f"{judged} ({100 * judged / len(accepted):.1f} %)",
        "refused by `torch.export`, and judged all the same": str(
            sum("refused" in one and is_judged(one) for one in ran.values())
        ),
        "model types judged, with any task": str(len({key.partition(" ")[0] for key in right})),
        "pairs of model type and task tried": str(len(results)),
        "pairs judged": str(len(right)),
        "pairs of model type and class judged": str(
            len({(key.partition(" ")[0], one["class"]) for key, one in right.items()})
        ),
        **{
            f"judged pairs with another {name}": str(changed[name])
            for name in ("batch and sequence", "batch")
        },
        "seconds to make one program: median, longest": _format_seconds(right, "seconds"),
        "seconds of the first call, with compilation: median, longest": _format_seconds(
            right, "first_call"
        ),
    }


def _format_seconds(results: Results, name: str) -> str:
    found = sorted(one[name] for one in results.values() if name in one)
    return f"{median(found):.1f}, {found[-1]:.1f} (of {len(found)})" if found else "-"


def _totals_table(targets: Mapping[str, Results], types: int) -> list[str]:
    columns = [export_totals(results, types) for results in targets.values()]
    rows = [(text, *(one[text] for one in columns)) for text in columns[0]]
    verdicts = [Counter(one["verdict"] for one in results.values()) for results in targets.values()]
    names = sorted({name for one in verdicts for name in one}, key=lambda name: -verdicts[0][name])
    rows += [(f"pairs: {name}", *(str(one[name]) for one in verdicts)) for name in names]
    return _table(("", *targets), rows)


def _task_table(targets: Mapping[str, Results]) -> list[str]:
    rows = []
    for task in (BASE_TASK, *HEAD_CLASSES):
        cells = []
        for results in targets.values():
            mine = _select_task(results, task)
            ran = sum(one["verdict"] != "does not run" for one in mine.values())
            judged = sum(map(is_judged, mine.values()))
            cells.append(f"{judged} of {ran}" if mine else "-")
        if set(cells) != {"-"}:
            rows.append((task, *cells))
    return ["Judged, of those that run in PyTorch, by task:", "", *_table(("task", *targets), rows)]


def _failure_table(targets: Mapping[str, Results]) -> list[str]:
    """Returns a table of all pairs for which at least one target has no passing program, with the reasons."""
    failed = {key for results in targets.values() for key, one in results.items()}
    failed = {
        key
        for key in failed
        if any(key in results and not is_judged(results[key]) for results in targets.values())
    }
    rows = []
    for key in sorted(failed):
        texts: dict[str, list[str]] = {}
        for name, results in targets.items():
            if key in results:
                texts.setdefault(_describe_outcome(results[key]), []).append(name)
        cell = "; ".join(
            text if len(names) == len(targets) else f"{', '.join(names)}: {text}"
            for text, names in texts.items()
        )
        rows.append((key, cell))
    title = [
        "### Without a judged program",
        "",
        "The outcome holds for all targets that are tried unless they are named.",
        "",
    ]
    return [*title, *_table(("model type and task", "outcome"), rows)]


def _describe_outcome(result: Mapping[str, Any]) -> str:
    if is_judged(result):
        return "judged"
    refuses = "refused by `torch.export`, " if "refused" in result else ""
    return f"{refuses}{result['verdict']}: {_shorten(result.get('refused') or result.get('reason', ''))}"


def _by_name_section(results: Results) -> list[str]:
    rows, failures = [], []
    for target, title in TITLES.items():
        found = {
            key: one["targets"][target] for key, one in results.items() if target in one["targets"]
        }
        verdicts = Counter(one["verdict"] for one in found.values())
        same = sum(one.get("answers") == "same" for one in found.values())
        sums = ", ".join(f"{name} {count}" for name, count in verdicts.most_common())
        rows.append((title, str(len(found)), sums, str(same)))
        failures += [
            (key, title, one["verdict"], _shorten(one["why"]))
            for key, one in found.items()
            if one.get("why")
        ]
    names: dict[str, list[str]] = {}
    for key in sorted(results):
        name, _, task = key.partition(" ")
        names.setdefault(name, []).append(task)
    listed = "; ".join(f"{name} ({', '.join(tasks)})" for name, tasks in names.items())
    columns = ("target", "heads", "verdicts", "same answer from `equipoise run`")
    lines = [*_table(columns, rows), "", f"{len(names)} architectures: {listed}."]
    if failures:
        lines += ["", *_table(("name and task", "target", "outcome", "reason"), failures)]
    return lines


def describe_derive_totals(results: Results, expected: int) -> str:
    """Returns the totals of one part as a sentence."""
    counts = Counter(one["result"] for one in results.values())
    built = len(results) - counts["not built"] - counts["unknown"]
    text = f"{len(results)} of {expected} tried; {counts['complete']} of {built} that can be built are complete"
    if counts["as given"]:
        share = 100 * (counts["complete"] + counts["as given"]) / built
        text += f", {counts['as given']} for the given config alone, together {share:.1f} %"
    if any("from one config" in one for one in results.values()):
        first = sum(one.get("from one config", False) for one in results.values())
        text += f", {first} of them from one config alone"
    return f"{text}."


def _derive_section(results: Mapping[str, Results], expected: Mapping[str, int]) -> list[str]:
    lines = []
    for title, part in (
        ("The architecture files of Equipoise, derived again", "own"),
        ("Model types of transformers 5.23, to Flax's layout and back", "types"),
    ):
        entries = results[part]
        counts = Counter(one["result"] for one in entries.values())
        sums = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        failures = [
            (name, one["result"], _shorten(one.get("why", "").split("; ")[0]))
            for name, one in sorted(entries.items())
            if one["result"] in DERIVE_FAILURES
        ]
        lines += [
            f"### {title}",
            "",
            f"{describe_derive_totals(entries, expected[part])} By result: {sums}.",
            "",
        ]
        lines += _table(("type", "result", "first reason"), failures)
        as_given = sorted(name for name, one in entries.items() if one["result"] == "as given")
        if as_given:
            lines += ["", f"As given: {', '.join(as_given)}."]
        lines.append("")
    return lines[:-1]


def _select_task(results: Results, task: str) -> Results:
    return {key: one for key, one in results.items() if key.partition(" ")[2] == task}


def _shorten(reason: str) -> str:
    """Returns the beginning of a reason, escaped for a table cell."""
    text = " ".join(reason.split())
    cut = (
        text[:MAX_REASON_CHARACTERS].rstrip() + "..." if len(text) > MAX_REASON_CHARACTERS else text
    )
    return cut.replace("|", "\\|")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(columns)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    write_page()
