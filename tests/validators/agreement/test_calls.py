"""``equipoise run`` gives what ``pipeline()`` of transformers 4.57.6 gives, for every call of ``calls``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from call_data import ROOT, all_calls, task_of
from comparing import difference
from run_calls import run_calls

from equipoise.validators.parameters.declarations import (
    declared_tasks,
    generation_fields,
    pipeline_of,
)
from equipoise.validators.tasks.base import task_names

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("calls"),
]


class Outcomes(NamedTuple):
    """The outcome of each call.

    Attributes:
        run: Of `equipoise run`.
        old: Of pipeline() of transformers 4.57.6.
        new: Of pipeline() of transformers 5.
    """

    run: list[dict[str, Any]]
    old: list[dict[str, Any]]
    new: list[dict[str, Any]]


SCRIPT = Path(__file__).with_name("pipeline_calls.py")
MIN_CALLS = 600
MIN_MODELS = 3
FEWER = {
    ("text-generation", "continue_final_message"): 1,
    ("image-text-to-text", "continue_final_message"): 1,
}
"""Options of chats alone: of the models that are made, one of each task is a chat model."""
CHANGES = json.loads(SCRIPT.with_name("newest.json").read_text(encoding="utf-8"))
"""What transformers 5 does otherwise: tasks, models and options, and the reason."""
INTERNAL = frozenset({"prefix_length", "tokenizer", "assistant_tokenizer"})
"""What pipelines set themselves."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the calls, the models that are made for them, and the results."""
    path = tmp_path_factory.mktemp("calls")
    (path / "calls.json").write_text(json.dumps(all_calls()))
    return path


@pytest.fixture(scope="module")
def outcomes(pytestconfig: pytest.Config, folder: Path) -> Outcomes:
    """What `run` gives and what the pipelines of 4.57.6 and of 5 give; both run while `run` does."""
    oracle = str(pytestconfig.getoption("--oracle"))
    with _calling_pipelines(oracle, folder, "old.json") as old:
        _wait_for_models(old, folder / "made" / "made")
        with _calling_pipelines(sys.executable, folder, "new.json") as new:
            found = list(run_calls(all_calls(), folder / "made"))
            assert old.wait() == 0
            assert new.wait() == 0
    theirs = (json.loads((folder / name).read_text()) for name in ("old.json", "new.json"))
    return Outcomes(found, *theirs)


@pytest.mark.oracle
@pytest.mark.slow
def test_every_call_gives_what_pipeline_gives(outcomes: Outcomes) -> None:
    different = [
        f"{_shown(call)}: {text}"
        for call, found, theirs in zip(all_calls(), outcomes.run, outcomes.old, strict=True)
        if (text := difference(found, theirs, is_refused=call["refused"]))
    ]
    assert not different, f"{len(different)} differ:\n" + "\n".join(different[:20])


@pytest.mark.oracle
@pytest.mark.slow
def test_what_is_new_in_transformers_5(outcomes: Outcomes) -> None:
    """Its pipelines give what those of 4.57.6 give, but for what `newest.json` says and gives a reason for."""
    used, unexpected, alike = set(), [], 0
    for call, new, old in zip(all_calls(), outcomes.new, outcomes.old, strict=True):
        if "raises" in old or not (text := difference(new, old)):
            alike += "raises" not in old
            continue
        index = next((i for i, rule in enumerate(CHANGES) if _explains(rule, call, new)), None)
        used.add(index)
        if index is None:
            unexpected.append(f"{_shown(call)}: {text}")
    assert not unexpected, f"{len(unexpected)} differ:\n" + "\n".join(unexpected[:20])
    assert used == set(range(len(CHANGES)))
    assert alike >= MIN_CALLS


@pytest.mark.oracle
def test_every_parameter_of_transformers_is_declared(pytestconfig: pytest.Config) -> None:
    script = SCRIPT.with_name("declared_calls.py")
    command = [str(pytestconfig.getoption("--oracle")), "-W", "ignore", str(script)]
    environment = {**os.environ, "USE_TF": "0", "USE_FLAX": "0"}
    found = subprocess.run(
        [*command, *declared_tasks()], env=environment, check=True, stdout=subprocess.PIPE
    )
    theirs = json.loads(found.stdout)
    fields = set(generation_fields())
    unknown = {}
    for task, names in theirs["pipelines"].items():
        declared = pipeline_of(task)
        assert declared is not None
        unknown[task] = set(names) - set(declared.parameters) - fields - INTERNAL
    assert {task: names for task, names in unknown.items() if names} == {}
    assert set(theirs["generation"]) - fields == {"transformers_version"}


def test_every_option_is_called() -> None:
    """Each option that changes something is given to three models of its task."""
    given: dict[tuple[str, str], set[str]] = {}
    for call in all_calls():
        names = set(call["options"]) | set(call["options"].get("generate_kwargs") or ())
        for name in names:
            given.setdefault((task_of(call), name), set()).add(call["model"])
    few = {}
    for task in sorted({task for task, _ in given}):
        declared = pipeline_of(task)
        assert declared is not None
        for one in declared.parameters.values():
            is_own = one.effect in ("encode", "decode") and one.group != "tokenizer"
            count = len(given.get((task, one.name), ()))
            if is_own and count < FEWER.get((task, one.name), MIN_MODELS):
                few[task, one.name] = count
    assert few == {}


def test_calls_cover_every_task() -> None:
    calls = all_calls()
    models: dict[str, set[str]] = {}
    for call in calls:
        models.setdefault(task_of(call), set()).add(call["model"])
    assert len(calls) >= MIN_CALLS
    assert set(models) == set(task_names())
    assert {task for task, names in models.items() if len(names) < 3} == set()


def test_no_call_is_there_twice() -> None:
    texts = Counter(json.dumps(call, sort_keys=True) for call in all_calls())
    assert [text for text, count in texts.items() if count > 1] == []


def _shown(call: dict[str, Any]) -> str:
    return f"{call['task']} {call['model']} {json.dumps(call['options'])}"


def _explains(rule: dict[str, Any], call: dict[str, Any], new: dict[str, Any]) -> bool:
    """Checks whether an entry of newest.json is about a call and its outcome."""
    given = {*call["options"], *(call["options"].get("generate_kwargs") or ())}
    return (
        call["task"] in rule["tasks"]
        and call["model"] in rule.get("models", [call["model"]])
        and bool(given & set(rule.get("options", given)) or "options" not in rule)
        and ("raises" in rule) == ("raises" in new)
        and rule.get("raises", "") in new.get("raises", "")
    )


def _calling_pipelines(python: str, folder: Path, results: str) -> subprocess.Popen[bytes]:
    """Starts one process that makes every call in an environment, and writes the results."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests" / "typing_root"),
        "USE_TF": "0",
        "USE_FLAX": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    files = [str(folder / name) for name in ("calls.json", "made", results)]
    return subprocess.Popen([python, "-W", "ignore", str(SCRIPT), *files], env=environment)


def _wait_for_models(process: subprocess.Popen[bytes], mark: Path) -> None:
    while not mark.exists():
        assert process.poll() is None, "the oracle ended before the models were made"
        time.sleep(0.2)
