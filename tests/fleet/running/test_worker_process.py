"""Warm processes: they answer, die and begin again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from equipoise.fleet.executors.local import _places
from equipoise.fleet.running.job_runner import RunSettings
from equipoise.fleet.running.worker_process import Limits, WorkerDiedError, WorkerProcess

FOLDER = str(Path(__file__).parent)


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    limits = Limits(seconds=5.0, environment={"PYTHONPATH": FOLDER, "MARK": "seen"})
    with closing(WorkerProcess(limits, "stand_in_worker")) as found:
        yield found


def test_a_worker_stays_warm(worker: WorkerProcess) -> None:
    first, second = worker.run(["say", "a"]), worker.run(["say", "b" * 100_000])
    assert (first["said"], second["said"]) == (["a"], ["b" * 100_000])
    assert first["pid"] == second["pid"]
    assert first["environment"]["MARK"] == "seen"


def test_the_cause_of_a_death(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerDiedError) as dead:
        worker.run(["die"])
    assert (dead.value.cause, dead.value.last_words) == ("signal 9", "out of luck")
    assert worker.run(["say", "again"])["said"] == ["again"]
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
