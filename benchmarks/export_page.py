"""The page on the coverage of exports: its figures are counted from the results, none is written by hand."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from export_targets import TARGETS
from export_tasks import BASE, HEADS

GOOD = ("identical", "within noise")
REASON = 160
"""Letters of a reason that go into the table."""
Pairs = dict[str, dict[str, Any]]


def good(one: dict[str, Any]) -> bool:
    """Whether a program was judged and is right."""
    return one["verdict"] in GOOD


def page(target: str, known: int, pairs: Pairs) -> str:
    """The results as a page.

    Args:
        target: The target.
        known: How many model types there are in the list.
        pairs: What was found.
    """
    about = TARGETS[target]
    lines = [
        f"# {about.title}",
        "",
        f"Written by `benchmarks/export_coverage.py` from `benchmarks/results/{about.results.name}`: tiny random models",
        f"of transformers 5, {about.about}, on the traced batch and on another one, and judged",
        "against PyTorch in float64. *Judged* is short for: the program is identical or within noise in all of that.",
        "Weights that are all one number after initialization get noise: a router of zeros chooses experts by the order",
        "in which a runtime looks at equal values.",
        "",
        *_figures(pairs, known),
        "",
        *_by_task(pairs),
        "",
        *_failures(pairs),
        "",
        *_by_type(pairs),
    ]
    return "\n".join(lines) + "\n"


def _figures(pairs: Pairs, known: int) -> list[str]:
    """What the whole comes to."""
    base = _of_task(pairs, BASE)
    ran = {key: one for key, one in base.items() if one["verdict"] != "does not run"}
    accepted = {key: one for key, one in ran.items() if "refused" not in one}
    judged = {key for key, one in accepted.items() if good(one)}
    others = {key for key, one in ran.items() if "refused" in one and good(one)}
    right = {key: one for key, one in pairs.items() if good(one)}
    types = {key.partition(" ")[0] for key in right}
    classes = {(key.partition(" ")[0], one["class"]) for key, one in right.items()}
    rows = [
        ("model types tried, of those in the list", f"{len(base)} of {known}"),
        ("they run in PyTorch with these inputs, with the same outputs every time", len(ran)),
        ("of those, `torch.export` accepts (plainly, or as transformers calls it)", len(accepted)),
        ("of those, judged", f"{len(judged)} ({_share(len(judged), len(accepted))})"),
        ("refused by `torch.export`, and judged all the same", len(others)),
        ("model types judged, with any task", len(types)),
        ("pairs of model type and task tried", len(pairs)),
        ("pairs judged", len(right)),
        ("they are so many pairs of model type and class", len(classes)),
        *((f"judged pairs with another {name}", count) for name, count in _freedom(right)),
        *_times(right),
    ]
    table = [f"| {text} | {value} |" for text, value in rows]
    incomplete = f"The run is not complete: {known - len(base)} model types were not tried yet."
    note = [incomplete, ""] if len(base) < known else []
    return [
        *note,
        "| | |",
        "| --- | --- |",
        *table,
        "",
        "The second batch has one sample more, and where there are texts or waves, longer ones. Where the model itself",
        "takes no other length, or no other batch, it is run as the model takes it; the fourth column of the last table",
        "says what was changed. What `torch.export` refuses may be right as a trace, or where positions of patches that",
        "the model computes from plain sizes are inputs: the column of ways says so.",
    ]


def _freedom(right: Pairs) -> list[tuple[str, int]]:
    """How many were run with which sizes changed."""
    counts = Counter(one["varies"] for one in right.values())
    fixed = counts.pop("nothing", 0)
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return [*ordered, *([("input of the same size only", fixed)] if fixed else [])]


def _times(right: Pairs) -> list[tuple[str, str]]:
    """How long making a program took, and the first call of it, where that was noted."""
    rows = []
    for key, text in (("seconds", "make one"), ("first_call", "call one first, compiling it")):
        seconds = sorted(one[key] for one in right.values() if key in one)
        if seconds:
            figures = f"{median(seconds):.1f}, {seconds[-1]:.1f} (of {len(seconds)})"
            rows.append((f"seconds to {text}: median, longest", figures))
    return rows


def _by_task(pairs: Pairs) -> list[str]:
    lines = ["## By task", "", "| task | tried | run | judged |", "| --- | --- | --- | --- |"]
    for task in (BASE, *HEADS):
        mine = _of_task(pairs, task)
        if mine:
            ran = sum(one["verdict"] != "does not run" for one in mine.values())
            lines.append(f"| {task} | {len(mine)} | {ran} | {sum(map(good, mine.values()))} |")
    return lines


def _failures(pairs: Pairs) -> list[str]:
    """Every pair without a judged program, with the reason."""
    lines = [
        "## Without a judged program",
        "",
        "| model type and task | class | outcome | `torch.export` | why |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, one in sorted(pairs.items()):
        if not good(one):
            ran = one["verdict"] != "does not run"
            export = ("refuses" if "refused" in one else "accepts") if ran else ""
            why = " ".join((one.get("refused") or one.get("reason", "")).split())[:REASON]
            cells = (key, one["class"], one["verdict"], export, why.replace("|", "\\|"))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _by_type(pairs: Pairs) -> list[str]:
    """Every model type with its judged tasks."""
    titles = ["model type", "tasks", "ways", "sizes that were changed"]
    is_timed = any("seconds" in one for one in pairs.values())
    titles += ["seconds to make, and to call first"] if is_timed else []
    ruler = ["---"] * len(titles)
    lines = ["## Judged, by model type", "", *(f"| {' | '.join(row)} |" for row in (titles, ruler))]
    kinds: dict[str, Pairs] = {}
    for key, one in sorted(pairs.items()):
        if good(one):
            kind, _, task = key.partition(" ")
            kinds.setdefault(kind, {})[task] = one
    for kind, tasks in kinds.items():
        ways = _listed(_way(one) for one in tasks.values())
        sizes = _listed(one["varies"] for one in tasks.values())
        cells = [kind, ", ".join(tasks), ways, sizes]
        cells += ["; ".join(map(_seconds, tasks.values()))] if is_timed else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _way(one: dict[str, Any]) -> str:
    more = f" with {', '.join(one['computed'])} as inputs" if "computed" in one else ""
    return f"{one['way']}{more}"


def _seconds(one: dict[str, Any]) -> str:
    """As far as they were noted."""
    return ", ".join(f"{one[key]:.1f}" for key in ("seconds", "first_call") if key in one)


def _listed(values: Any) -> str:
    return "; ".join(sorted(set(values)))


def _of_task(pairs: Pairs, task: str) -> Pairs:
    return {key: one for key, one in pairs.items() if key.partition(" ")[2] == task}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
