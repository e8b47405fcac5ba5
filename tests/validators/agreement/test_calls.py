"""``equipoise run`` gives what ``pipeline()`` of transformers 4.57.6 gives, for every call of ``calls``."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

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

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

SCRIPT = Path(__file__).with_name("pipeline_calls.py")
MIN_CALLS = 600
INTERNAL = frozenset({"prefix_length", "tokenizer", "assistant_tokenizer"})
"""What pipelines set themselves."""


@pytest.mark.oracle
@pytest.mark.slow
def test_every_call_gives_what_pipeline_gives(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    calls = all_calls()
    # Both sides run at once; the models are made by the other one.
    with _calling_pipelines(str(pytestconfig.getoption("--oracle")), tmp_path) as process:
        _wait_for_models(process, tmp_path / "made" / "made")
        outcomes = list(run_calls(calls, tmp_path / "made"))
        assert process.wait() == 0
    wanted = json.loads((tmp_path / "results.json").read_text())
    different = [
        f"{call['task']} {call['model']} {json.dumps(call['options'])}: {text}"
        for call, found, theirs in zip(calls, outcomes, wanted, strict=True)
        if (text := difference(found, theirs, is_refused=call["refused"]))
    ]
    assert not different, f"{len(different)} of {len(calls)} differ:\n" + "\n".join(different[:20])


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
    """Each option that changes something is given in some call of its task."""
    given: dict[str, set[str]] = {}
    for call in all_calls():
        names = given.setdefault(task_of(call), set())
        names |= set(call["options"]) | set(call["options"].get("generate_kwargs") or ())
    missing = {}
    for task, names in given.items():
        declared = pipeline_of(task)
        assert declared is not None
        missing[task] = {
            one.name
            for one in declared.parameters.values()
            if one.effect in ("encode", "decode") and one.group != "tokenizer"
        } - names
    assert {task: names for task, names in missing.items() if names} == {}


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


def _calling_pipelines(oracle: str, folder: Path) -> subprocess.Popen[bytes]:
    """Starts one process that makes every call in the oracle's environment, and writes results.json."""
    (folder / "calls.json").write_text(json.dumps(all_calls()))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests" / "typing_root"),
        "USE_TF": "0",
        "USE_FLAX": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    files = [str(folder / name) for name in ("calls.json", "made", "results.json")]
    return subprocess.Popen([oracle, "-W", "ignore", str(SCRIPT), *files], env=environment)


def _wait_for_models(process: subprocess.Popen[bytes], mark: Path) -> None:
    while not mark.exists():
        assert process.poll() is None, "the oracle ended before the models were made"
        time.sleep(0.2)
