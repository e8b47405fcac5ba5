"""The folder of results, and claims on jobs."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert.core.errors import InputError, OutputError
from equipoise.fleet.core.claims import Claims
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.status import fleet_status


def job(number: int) -> Job:
    return Job("convert", f"models/{number}", ("--to", "flax"))


def result(number: int, status: str, finished: float = 0.0) -> dict[str, Any]:
    run = {"seconds": 1.0, "finished": finished}
    return {"key": job(number).key, "status": status, "run": run}


def test_status_of_several_folders(tmp_path: Path) -> None:
    stores = [ResultStore.create(tmp_path / name) for name in ("a", "b")]
    for store in stores:
        store.add_jobs([job(number) for number in range(5)])
    stores[0].write(result(0, "ok", 10.0))
    stores[0].write(result(1, "failed", 12.0))
    stores[1].write(result(2, "ok", 14.0))
    found = fleet_status([tmp_path / "a", tmp_path / "b"])
    assert found.as_dict() == {
        "jobs": 5,
        "done": {"ok": 2, "difference": 0, "refused": 0, "failed": 1},
        "left": 2,
        "running": 0,
        "seconds_left": 4.0,
    }


def test_a_result_is_done_though_no_index_names_it(tmp_path: Path) -> None:
    """A process that is killed between the two writes leaves a result without a line, or half a line."""
    store = ResultStore.create(tmp_path)
    store.add_jobs([job(0)])
    store.write(result(0, "refused", 3.0))
    (index,) = (tmp_path / "index").iterdir()
    index.write_text(index.read_text()[:20])
    assert list(store.summaries()) == [
        {"key": job(0).key, "status": "refused", "seconds": 1.0, "finished": 3.0}
    ]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"key": "another"}'])
def test_a_damaged_result_is_named(content: str, tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path)
    store.add_jobs([job(0)])
    store.write(result(0, "ok"))
    path = store.result_path(job(0).key)
    path.write_text(content)
    with pytest.raises(InputError, match="the file is damaged") as caught:
        store.read(job(0).key)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b'{"a": 1}\n', b"\xff\n", b"[1]\n", b"1\n"])
def test_damaged_lists_and_indexes(content: bytes, tmp_path: Path) -> None:
    """What an index says is in the results too; a list of jobs is nowhere else."""
    store = ResultStore.create(tmp_path)
    store.add_jobs([job(0)])
    store.write(result(0, "ok"))
    for path in (tmp_path / "index").iterdir():
        path.write_bytes(content)
    assert [one["status"] for one in store.summaries()] == ["ok"]
    (path,) = (tmp_path / "jobs").iterdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match="the file is damaged"):
        list(store.jobs())


@pytest.mark.parametrize("content", ['{"version": 99}', "[]", "x"])
def test_results_of_another_version(content: str, tmp_path: Path) -> None:
    ResultStore.create(tmp_path)
    (tmp_path / "fleet.json").write_text(content)
    for begin in (ResultStore.open, ResultStore.create):
        with pytest.raises(InputError, match=r"another version|damaged"):
            begin(tmp_path)


def test_redone_results_count_once(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path)
    store.add_jobs([job(0)])
    store.write(result(0, "failed", 1.0))
    store.forget([job(0).key])
    assert store.done_keys() == set()
    assert list(store.summaries()) == []
    ResultStore.open(tmp_path).write(result(0, "ok", 2.0))
    assert [one["status"] for one in store.summaries()] == ["ok"]


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="something else"):
        ResultStore.create(tmp_path)
    with pytest.raises(InputError, match="no results of a fleet"):
        ResultStore.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_jobs_of_shards_are_noted_once(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path)
    store.add_jobs([job(0), job(1)])
    store.add_jobs([job(0), job(1)])
    store.add_jobs([job(1), job(2)])
    assert [one.source for _, one in store.jobs()].count("models/1") == 1
    assert store.job_keys() == {job(number).key for number in range(3)}


def claim(folder: Path, pid: int, host: str = socket.gethostname()) -> Path:
    path = folder / "k"
    path.write_text(json.dumps({"host": host, "pid": pid}))
    return path


def test_one_of_two_gets_a_job(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("k")
        assert not other.take("k")
        one.give_up("k")
        assert other.take("k")
    assert list(tmp_path.iterdir()) == []


def test_claims_of_the_dead_are_taken_over(tmp_path: Path) -> None:
    claim(tmp_path, pid=2**22 + 1)
    with Claims(tmp_path) as claims:
        assert claims.take("k")


def test_claims_of_another_machine_age(tmp_path: Path) -> None:
    path = claim(tmp_path, pid=1, host="elsewhere")
    with Claims(tmp_path, stale_seconds=60) as claims:
        assert not claims.take("k")
        old = path.stat().st_mtime - 61
        os.utime(path, (old, old))
        assert claims.take("k")


def test_a_claim_is_never_half_read(tmp_path: Path) -> None:
    """Another process has made the file, and not yet written it."""
    (tmp_path / "k").write_text("")
    with Claims(tmp_path) as claims:
        assert not claims.take("k")
