"""Measurements as jobs: an interrupted one goes on, a finished one begins anew, shards are put together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "fleet" / "running" / "stand_in_worker.py"


@pytest.fixture
def measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Returns the module with a cache of its own."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    module = import_module("measurement_jobs")
    monkeypatch.setattr(module, "CACHE", tmp_path)
    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def options(module: Any, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_options(parser)
    return parser.parse_args(words)


def test_an_interrupted_measurement_goes_on(
    measurement: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [measurement.make_job("say", name, (3,)) for name in "abc"]
    given = options(measurement)

    def run() -> str:
        with measurement.finished_jobs(
            "words", jobs, WORKER, given, lambda one: one["status"]
        ) as found:
            said = [found[job.key]["summary"]["said"] for job in jobs]
            assert [(one[0], one[2]) for one in said] == [("a", "3"), ("b", "3"), ("c", "3")]
            if not given.workers:
                raise OSError("the disk is full")
        return capsys.readouterr().out

    given.workers = 0
    with pytest.raises(OSError, match="disk"):
        run()
    assert len(capsys.readouterr().out.splitlines()) == 3
    given.workers = 1
    assert run() == ""
    assert run().splitlines()[0].startswith("[1/3] a ")


def test_shards(measurement: Any, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [measurement.make_job("say", str(number)) for number in range(6)]
    described = 0

    def describe(result: Any) -> str:
        nonlocal described
        described += 1
        return str(result["source"])

    with (
        pytest.raises(SystemExit, match=r"of 6 jobs are done"),
        measurement.finished_jobs(
            "words", jobs, WORKER, options(measurement, "--shard", "1/2"), describe
        ),
    ):
        pass
    assert 0 < described < 6
    with measurement.finished_jobs(
        "words", jobs, WORKER, options(measurement, "--shard", "2/2"), describe
    ) as found:
        assert found.keys() == {job.key for job in jobs}
    assert described == 6


def test_a_worker_that_dies(measurement: Any) -> None:
    job = measurement.make_job("die", "a")
    with measurement.finished_jobs(
        "words", [job], WORKER, options(measurement), measurement.describe_error, retries=0
    ) as found:
        assert measurement.describe_error(found[job.key]) == "the worker ended: signal 9"


def test_what_else_decides(measurement: Any) -> None:
    one, other = (measurement.make_job("say", "a", (), content) for content in ({"n": 1}, {"n": 2}))
    assert one.key != other.key
