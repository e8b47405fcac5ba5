"""The page on architectures by name: its figures come from the results, none is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GOOD = ("identical", "within noise", "decision-safe")
TITLES = {"stablehlo": "JAX", "saved-model": "SavedModel"}


def page(kept: dict[str, dict[str, Any]], targets: Sequence[str]) -> str:
    """The results as a page."""
    heads = [f"{TITLES[target]} | s to export | s of first call" for target in targets]
    lines = [
        "# Architectures by name",
        "",
        "Written by `benchmarks/by_name.py` from `benchmarks/results/by-name.json`: folders as `save_pretrained` writes them",
        "(`fixtures/modern`: tiny, seeded random weights, tokenizers and processors of the architecture's own kind), exported with",
        "`equipoise export FOLDER OUT --to TARGET` and judged on all cases of the task against PyTorch. Most of these",
        "architectures never had a class in TensorFlow or Flax, or not in both. The first call includes the compilation; seconds",
        "are those of a machine with two cores that did other work too.",
        "",
        f"| name | task | class | {' | '.join(heads)} | sizes that vary | same answer from `equipoise run` |",
        f"| --- | --- | --- | {' | '.join(['--- | --- | ---'] * len(targets))} | --- | --- |",
        *(_row(key, one, targets) for key, one in kept.items()),
    ]
    why = [
        f"- {key}, {TITLES[target]}: {one['targets'][target]['why']}"
        for key, one in kept.items()
        for target in targets
        if one["targets"].get(target, {}).get("why")
    ]
    reasons = ["", "## What falls short", "", *why] if why else []
    return "\n".join([*lines, *reasons]) + "\n"


def _row(key: str, one: dict[str, Any], targets: Sequence[str]) -> str:
    name, _, task = key.partition(" ")
    found = [one["targets"].get(target, {}) for target in targets]
    cells = [name, task, f"`{one['class']}`"]
    for each in found:
        cells += [str(each.get("verdict", "not run")), _text(each, "seconds"), _text(each, "first")]
    sizes = list(dict.fromkeys(size for each in found for size in each.get("open", [])))
    answers = {each.get("answers", "none") for each in found}
    cells += [", ".join(sizes), "yes" if answers == {"same"} else "no"]
    return f"| {' | '.join(cells)} |"


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return "" if value is None else str(value)
