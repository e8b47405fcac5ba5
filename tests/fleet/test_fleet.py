"""Fleets of real conversions: killed, begun again, in shards."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fleet_results import repeatable_results

from equipoise.cli.main import run as command
from equipoise.fleet.core.claims import STALE_SECONDS
from equipoise.fleet.core.job_list import read_jobs
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.drive import Fleet, run_fleet
from equipoise.fleet.running.job_runner import RunSettings

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
WEIGHTS = "model.safetensors"
MOST_KILLS = 6
"""A slow machine would begin the last job again and again."""
STAND_IN = str(Path(__file__).parent / "running" / "stand_in_worker.py")
KINDS = ("text-classification", "image-classification", "summarization", "fill-mask")


def make_models(folder: Path, count: int) -> None:
    """Writes models of four kinds; every tenth has a fault: no config, or a truncated file, in turn."""
    for index in range(count):
        path = folder / f"m{index:03}"
        shutil.copytree(TASKS / KINDS[index % len(KINDS)], path)
        if index % 20 == 0:
            (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-5])
        elif index % 20 == 10:
            (path / WEIGHTS).unlink()


def counts(folder: Path) -> Counter[str]:
    return Counter(one["status"] for one in ResultStore.open(folder).summaries())


@pytest.mark.slow
def test_workers_are_killed_at_random(tmp_path: Path) -> None:
    """Each job is done once with the right result, though workers die all the time."""
    make_models(tmp_path / "models", 60)
    jobs = read_jobs("convert", str(tmp_path / "models"), ["--to", "flax"])
    out = tmp_path / "out"
    ended = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        chance = random.Random(7)
        while len(killed) < MOST_KILLS and not ended.wait(0.9):
            found = [pid for pid in _children(os.getpid()) if "_fleet_worker" in _command(pid)]
            if found:
                pid = chance.choice(found)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    seen: Counter[str] = Counter()
    try:
        settings = RunSettings(out, retries=9)
        found = run_fleet(
            Fleet(jobs, settings, workers=2), lambda result, *_: seen.update([result["key"]])
        )
    finally:
        ended.set()
        killer.join()
    assert killed
    assert seen == Counter(job.key for job in jobs)
    assert found == {"ok": 54, "difference": 0, "refused": 6, "failed": 0}
    for job in jobs:
        result = ResultStore.open(out).read(job.key)
        if result["status"] == "ok":
            assert (out / result["output"] / "flax_model.msgpack").is_file()
        else:
            assert result["output"] is None
            assert result["error"]["message"]
    assert list((out / "claims").iterdir()) == []


@pytest.mark.slow
def test_a_killed_fleet_goes_on(tmp_path: Path) -> None:
    """The driver is killed with its workers: the same line does what is left, and nothing twice."""
    make_models(tmp_path / "models", 24)
    out = tmp_path / "out"
    line = [
        "fleet",
        "convert",
        str(tmp_path / "models"),
        "--out",
        str(out),
        "--workers",
        "2",
        "--",
        "--to",
        "flax",
    ]
    driver = subprocess.Popen(
        [sys.executable, "-m", "equipoise", *line],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while len(list(out.glob("results/*/*.json"))) < 5 and driver.poll() is None:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("results/*/*.json")}
    assert command(line) == 2  # some are refused
    after = {path: path.stat().st_mtime_ns for path in out.glob("results/*/*.json")}
    assert len(after) == 24
    assert {path: after[path] for path in before} == before
    assert counts(out) == {"ok": 20, "refused": 4} or counts(out) == {"ok": 21, "refused": 3}


@pytest.mark.slow
def test_two_drivers_share_a_folder(tmp_path: Path) -> None:
    """Each job is done by one of them; both end when all is done."""
    make_models(tmp_path / "models", 24)
    out = tmp_path / "out"
    line = ["fleet", "convert", str(tmp_path / "models"), "--out", str(out), "--workers", "1"]
    drivers = [
        subprocess.Popen(
            [sys.executable, "-m", "equipoise", *line, "--", "--to", "flax"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    told = [driver.communicate()[1].splitlines() for driver in drivers]
    sources = [text.split()[2] for lines in told for text in lines if text.startswith("[")]
    assert sorted(sources) == sorted(str(path) for path in (tmp_path / "models").iterdir())
    assert all(told)
    assert list((out / "claims").iterdir()) == []


def test_a_job_that_kills_every_worker(tmp_path: Path) -> None:
    """It fails with the worker's last words, and the others are done; a worker of another kind has commands of its own."""
    jobs = [Job("say", "good", ("word",)), Job("die", "deadly")]
    settings = RunSettings(tmp_path / "out", retries=2, worker=STAND_IN)
    run_fleet(Fleet(jobs, settings, workers=1), lambda *_: None)
    found = [ResultStore.open(tmp_path / "out").read(job.key) for job in jobs]
    assert [one["status"] for one in found] == ["ok", "failed"]
    output = str(tmp_path / "out" / "outputs" / f"good-{jobs[0].key[:8]}")
    assert found[0]["summary"]["said"] == ["good", output, "word"]
    assert found[1]["error"] == {
        "error": "WorkerError",
        "message": "the worker ended: signal 9",
        "last_words": "out of luck",
    }
    assert found[1]["run"]["attempts"] == 3


def test_the_worker_of_the_page_runs(tmp_path: Path) -> None:
    """docs/fleet.md shows a worker of one's own and how its jobs are run."""
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    worker, driver = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "count_worker.py").write_text(worker)
    for name, size in (("bert", 7), ("t5", 11)):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "weights").write_bytes(bytes(size))
    done = subprocess.run(
        [sys.executable, "-c", driver], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert sorted(done.stdout.splitlines()) == ["{'bytes': 11}", "{'bytes': 7}"], done.stderr


def test_an_interrupted_fleet(tmp_path: Path) -> None:
    """Ctrl-C: what runs has no result and no claim, and its worker is gone at once."""
    code = f"""
from pathlib import Path
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.drive import Fleet, run_fleet
from equipoise.fleet.running.job_runner import RunSettings
jobs = [Job("say", "first"), Job("sleep", "second"), Job("say", "third")]
settings = RunSettings(Path({str(tmp_path / "out")!r}), retries=0, worker={STAND_IN!r})
run_fleet(Fleet(jobs, settings, workers=1), lambda result, *_: print(result["summary"]["pid"], flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        try:
            assert driver.stdout is not None
            pid = int(driver.stdout.readline())
            time.sleep(0.3)
            driver.send_signal(signal.SIGINT)
            _, words = driver.communicate(timeout=60)
        finally:
            driver.kill()
    assert "KeyboardInterrupt" in words
    assert not Path(f"/proc/{pid}").exists()
    assert counts(tmp_path / "out") == {"ok": 1}
    assert list((tmp_path / "out" / "claims").iterdir()) == []


def test_a_job_of_a_machine_that_is_gone(tmp_path: Path) -> None:
    """Its claim is fresh: the job is waited for and then run here, not left; a job that the other does is not run twice."""
    jobs = [Job("say", name) for name in ("gone", "theirs", "mine")]
    store = ResultStore.create(tmp_path / "out")
    for job in jobs[:2]:
        claim = store.folder / "claims" / job.key
        claim.write_text('{"host": "another", "pid": 1}')
        os.utime(claim, (time.time() - STALE_SECONDS + 2, time.time() - STALE_SECONDS + 2))
    told: list[str] = []
    waited: list[int] = []

    def tell(result: dict[str, Any], number: int, count: int) -> None:
        told.append(result["source"])
        if result["source"] == "mine":  # meanwhile the other ends
            store.write({**result, "key": jobs[1].key, "source": "theirs"})

    settings = RunSettings(store.folder, worker=STAND_IN)
    counted = run_fleet(Fleet(jobs, settings, workers=1), tell, waited.append)
    assert told == ["mine", "gone"]
    assert waited == [1]
    assert counted["ok"] == 3


def test_shards_give_what_one_run_gives(tmp_path: Path) -> None:
    make_models(tmp_path / "models", 6)
    line = ["fleet", "convert", str(tmp_path / "models"), "--out"]
    rest = ["--", "--to", "tensorflow-safetensors"]
    command([*line, str(tmp_path / "all"), "--workers", "1", *rest])
    parts = [str(tmp_path / f"part{number}") for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        command([*line, part, "--workers", "1", "--shard", f"{number}/3", *rest])
    merged = [one for part in parts for one in repeatable_results(Path(part))]
    assert sorted(merged) == repeatable_results(tmp_path / "all")


def test_done_again_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused jobs stay refused until they are asked for again."""
    make_models(tmp_path / "models", 2)
    out = tmp_path / "out"
    line = ["fleet", "convert", str(tmp_path / "models"), "--out", str(out), "--workers", "1"]
    assert command([*line, "--", "--to", "flax"]) == 2
    capsys.readouterr()
    assert command([*line, "--", "--to", "flax"]) == 2
    assert "[" not in capsys.readouterr().err
    assert command([*line, "--redo", "refused", "--", "--to", "flax"]) == 2
    assert capsys.readouterr().err.startswith("[1/1] refused")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--executor", "locl"], "did you mean 'local'"),
        (["--shard", "4/3"], "'4/3' is not I/N"),
        (["--resources", "gpu=many"], "takes a number"),
        (["--resources", "tpu=1"], "no such resource"),
        (["--resources", "gpu=99"], "GPUs each need more than there are"),
        (["--resources", "cpu=0"], "takes a number above 0"),
        (["--resources", "cpu=nan"], "takes a number above 0"),
        (["--resources", "cpu=99999"], "more cores than there are"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_models(tmp_path / "models", 1)
    line = ["fleet", "convert", str(tmp_path / "models"), "--out", str(tmp_path / "out")]
    assert command([*line, *arguments, "--", "--to", "flax"]) == 2
    assert message in capsys.readouterr().err


def test_options_of_the_command_are_checked_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_models(tmp_path / "models", 1)
    line = ["fleet", "convert", str(tmp_path / "models"), "--out", str(tmp_path / "out"), "--"]
    for options, message in (
        (["--too", "flax"], "No such option '--too'"),
        ([], "Missing option '--to'"),
        (["--to", "flax", "--dtype", "fp17"], "is not one of"),
    ):
        assert command([*line, *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"dry-run": True}, {"help": True}, {"too": "flax"}])
def test_options_of_a_line_are_checked_first(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_text(
        json.dumps({"source": "x", "options": {"to": "flax", **options}})
    )
    out = tmp_path / "out"
    assert command(["fleet", "convert", str(tmp_path / "list"), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert "does not belong to jobs of a fleet" in err or "No such option '--too'" in err
    assert not out.exists()


def test_status_of_no_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["fleet", "status", str(tmp_path)]) == 2
    assert "no results of a fleet" in capsys.readouterr().err


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(one) for task in tasks for one in (task / "children").read_text().split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return ""
