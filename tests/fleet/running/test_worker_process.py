"""Warm processes: they answer, die and begin again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from equipoise.fleet.executors.local import _places
from equipoise.fleet.running.job_runner import RunSettings
from equipoise.fleet.running.worker_process import (
    Limits,
    WorkerDiedError,
    WorkerProcess,
    WorkerStoppedError,
)

FOLDER = str(Path(__file__).parent)


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    limits = Limits(seconds=5.0, environment={"PYTHONPATH": FOLDER, "MARK": "seen"})
    with closing(WorkerProcess(limits, "stand_in_worker")) as found:
        yield found


def said(reply: dict[str, Any]) -> Any:
    return json.loads(reply["stdout"])


def test_a_worker_stays_warm(worker: WorkerProcess) -> None:
    first, second = said(worker.run(["say", "a"])), said(worker.run(["say", "b" * 100_000]))
    assert (first["said"], second["said"]) == (["a"], ["b" * 100_000])
    assert first["pid"] == second["pid"]
    assert first["environment"]["MARK"] == "seen"


def test_a_worker_is_started_anew_after_some_jobs() -> None:
    """A script can be a worker as a module can."""
    limits = Limits(jobs=2)
    with closing(WorkerProcess(limits, f"{FOLDER}/stand_in_worker.py")) as worker:
        pids = [said(worker.run(["say"]))["pid"] for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_progress(worker: WorkerProcess) -> None:
    heard: list[str] = []
    worker.run(["say"], heard.append)
    assert heard == ["doing say"]


def test_a_worker_is_stopped_while_it_runs(worker: WorkerProcess) -> None:
    """It ends in its own way, what it ran has no result, and it is not started again."""
    threading.Timer(0.5, worker.stop).start()
    begin = time.monotonic()
    with pytest.raises(WorkerStoppedError):
        worker.run(["sleep"], lambda text: None)
    assert time.monotonic() - begin < 4
    with pytest.raises(WorkerStoppedError):
        worker.run(["say"])


def test_a_worker_ends_with_its_driver() -> None:
    """The driver is killed while the worker runs: the worker does not run on beside the next one."""
    code = f"""
from equipoise.fleet.running.worker_process import Limits, WorkerProcess
worker = WorkerProcess(Limits(), {FOLDER + "/stand_in_worker.py"!r})
process = worker._start()
print(process.pid, flush=True)
worker.run(["sleep"], lambda text: print(text, flush=True))
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    assert driver.stdout.readline() == "doing sleep\n"
    driver.kill()
    driver.communicate()
    end = time.monotonic() + 4
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_the_cause_of_a_death(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerDiedError) as dead:
        worker.run(["die"])
    assert (dead.value.cause, dead.value.last_words) == ("signal 9", "out of luck")
    assert said(worker.run(["say", "again"]))["said"] == ["again"]
    with pytest.raises(WorkerDiedError, match="exit code 7"):
        worker.run(["leave"])


def test_time_limit() -> None:
    limits = Limits(seconds=0.3, environment={"PYTHONPATH": FOLDER})
    with closing(WorkerProcess(limits, "stand_in_worker")) as worker:
        with pytest.raises(WorkerDiedError) as late:
            worker.run(["sleep"])
        assert late.value.cause == "time limit of 0.3 s"


def test_memory_limit(tmp_path: Path) -> None:
    """What needs more has failed, as a limit and not as a defect; NumPy's library ends the process where it is less still."""
    source = Path(__file__).parents[3] / "fixtures" / "tasks" / "text-classification"
    try:
        with closing(WorkerProcess(Limits(memory_mb=150))) as worker:
            line = ["convert", str(source), str(tmp_path / "out"), "--to", "flax"]
            found = worker.run(line)
    except WorkerDiedError as error:
        assert "emory" in error.last_words  # noqa: PT017 - either is right
    else:
        assert (found["exit_code"], "memory is not enough" in found["stderr"]) == (3, True)
    assert not (tmp_path / "out").exists()


def test_cores_are_divided(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    places = _places(RunSettings(tmp_path), 2, {})
    found = [place.limits.cores for place in places]
    if len(cores) > 1:
        assert sorted(one for part in found for one in part) == cores
        assert all(found)


def test_gpus_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3,5")
    places = _places(RunSettings(tmp_path), 2, {"gpu": 2})
    assert [one.limits.environment for one in places] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "3,5"},
    ]
