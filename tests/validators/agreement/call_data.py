"""The calls of ``pipeline()`` that ``equipoise run`` is compared with: rows of the JSON files in ``calls``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise.validators.tasks.base import find_task

ROOT = Path(__file__).parents[3]
CALLS = Path(__file__).with_name("calls")
FIXTURES = ROOT / "fixtures" / "tasks"


def all_calls(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Returns every call: a task, a model, options and samples; ``refused`` where Equipoise refuses what ``pipeline()`` may do.

    A group of a file stands for each of its models with each of its options. Without ``samples`` they are the first two of the
    model's folder.
    """
    files = [CALLS / f"{name}.json" for name in names] or sorted(CALLS.glob("*.json"))
    groups = [group for file in files for group in json.loads(file.read_text(encoding="utf-8"))]
    return [
        {
            "task": group["task"],
            "model": model,
            "options": options,
            "refused": group.get("refused", False),
            "samples": [expand(sample) for sample in group.get("samples") or own_samples(model)],
        }
        for group in groups
        for model in group["models"]
        for options in group["options"]
    ]


def task_of(call: dict[str, Any]) -> str:
    """Returns the task of a call by the name that Equipoise has for it."""
    return str(find_task(call["task"]).name)


def own_samples(model: str) -> list[dict[str, Any]]:
    """Returns the first two samples of a model of ``fixtures/tasks``; their media are named relative to ``fixtures/tasks``."""
    name = model.partition("/")[2]
    entries = json.loads((FIXTURES / name / "samples.json").read_text(encoding="utf-8"))
    media = ("image", "audio")
    return [
        {
            field: f"{name}/{value}" if field in media else value
            for field, value in entry["inputs"].items()
        }
        for entry in entries[:2]
    ]


def expand(sample: dict[str, Any]) -> dict[str, Any]:
    """Returns a sample whose texts ``LONG n text`` are the text n times; both sides repeat audio ``LOOP n file``."""
    return {field: _expand(value) for field, value in sample.items()}


def _expand(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("LONG "):
        _, count, text = value.split(" ", 2)
        return " ".join([text] * int(count))
    return value
