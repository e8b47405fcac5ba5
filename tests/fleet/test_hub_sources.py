"""Fleets over repositories of a Hub that fails now and then, with workers that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_repositories import break_repository
from hub_server import Hub, client_environment, serving

pytest.importorskip("huggingface_hub")

from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.hub_filter import list_repositories
from equipoise.fleet.core.job_list import read_jobs
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.drive import Fleet, run_fleet
from equipoise.fleet.running.fetching import Fetcher, FetchSettings
from equipoise.fleet.running.job_runner import RunSettings

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
KINDS = ("text-classification", "image-classification", "fill-mask", "summarization")
MOST_KILLS = 12
"""A slow machine would begin the last job again and again."""
FAULTS = ("no config", "truncated", "unknown type", "pickle", "quantized")


def make_repository(folder: Path, kind: str, fault: str = "") -> None:
    """Writes a repository, with a fault."""
    shutil.copytree(TASKS / kind, folder, ignore=shutil.ignore_patterns("samples.json"))
    if fault:
        break_repository(folder, fault)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    with serving(Hub(tmp_path / "hub", failing=0.05, seed=3)) as server:
        yield server


def run(hub: Hub, out: Path, *more: str) -> subprocess.Popen[bytes]:
    line = [
        "fleet",
        "convert",
        "hf://?author=org",
        "--out",
        str(out),
        "--workers",
        "2",
        *more,
        "--",
        "--to",
        "flax",
    ]
    environment = client_environment(hub, out.parent / "home")
    return subprocess.Popen(
        [sys.executable, "-m", "equipoise", *line],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def kill_workers(driver: subprocess.Popen[bytes], chance: np.random.Generator) -> int:
    """Kills a worker now and then until the driver ends; returns how often."""
    killed = 0
    while driver.poll() is None:
        time.sleep(0.8)
        if killed >= MOST_KILLS:
            continue
        found = subprocess.run(
            ["pgrep", "-P", str(driver.pid)], capture_output=True, text=True, check=False
        )
        workers = [int(one) for one in found.stdout.split()]
        if workers:
            try:
                os.kill(int(chance.choice(workers)), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
    return killed


@pytest.mark.slow
def test_every_repository_is_done_once(hub: Hub, tmp_path: Path) -> None:
    """A small form of the run over ten thousand: 200 repositories, five kinds of faults, failures, killed workers."""
    count = 200
    for index in range(count):
        fault = FAULTS[index // 10 % 5] if index % 10 == 0 else ""
        make_repository(hub.root / "org" / f"m{index:03}", KINDS[index % 4], fault)
    out = tmp_path / "out"
    driver = run(hub, out, "--workers", "6", "--retry", "5")
    killed = kill_workers(driver, np.random.default_rng(5))
    assert driver.returncode == 2
    assert killed
    assert hub.failures
    store = ResultStore.open(out)
    results = [store.read(key) for key in store.done_keys()]
    assert Counter(one["status"] for one in results) == {"ok": count - 20, "refused": 20}
    assert len({one["source"] for one in results}) == count
    assert not (Path.cwd() / "attacked").exists()
    assert {path.name for path in out.glob("downloads/*/models--*")} == set()
    for one in results:
        assert (one["output"] is not None) == (one["status"] == "ok")
    weights = [n for name, n in hub.downloads.items() if name.endswith("model.safetensors")]
    assert set(weights) == {1}


def test_a_repository_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    """It is refused at once, and a Hub that stays silent is a failure."""
    (tmp_path / "list").write_text("org/nothing\n")
    driver = run(hub, tmp_path / "out")
    assert driver.wait() == 2  # the filter finds nothing either
    assert not (tmp_path / "out" / "results").exists()


def test_a_download_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the Hub is busy, and not at all where there is nothing."""
    waited: list[float] = []
    answers: Iterator[Exception | None] = iter(
        [None, ConnectionError("silence"), ConnectionError("silence"), None]
    )

    def resolve(source: str, *arguments: object, **options: object) -> str:
        if (found := next(answers)) is not None:
            raise InputError("cannot be downloaded") from found
        return "here"

    monkeypatch.setattr("equipoise.fleet.running.fetching.resolve_source", resolve)
    fetcher = Fetcher(FetchSettings(waits=(1.0, 2.0)), sleep=waited.append)
    assert fetcher.fetch(Job("convert", "hf://org/name")) == "here"
    assert fetcher.fetch(Job("convert", "hf://org/name")) == "here"
    assert waited == [1.0, 2.0]
    answers = iter([ValueError("no such repository")])
    with pytest.raises(InputError):
        fetcher.fetch(Job("convert", "hf://org/name"))
    assert waited == [1.0, 2.0]
    # Without a network nothing is waited for.
    answers = iter([ConnectionError("silence")])
    with pytest.raises(InputError):
        Fetcher(FetchSettings(), sleep=waited.append).fetch(Job("convert", "hf://org/name"))
    assert waited == [1.0, 2.0]


def test_downloads_are_removed_when_nobody_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models--org--name"
    folder.mkdir()
    (tmp_path / "models--org--other").mkdir()
    monkeypatch.setattr("equipoise.fleet.running.fetching.resolve_source", lambda *a, **o: folder)
    fetcher = Fetcher(FetchSettings(tmp_path))
    first, second = (
        Job("convert", "hf://org/name"),
        Job("convert", "hf://org/name", ("--to", "flax")),
    )
    fetcher.fetch(first)
    fetcher.fetch(second)
    fetcher.release(first)
    assert folder.exists()
    fetcher.release(second)
    assert [path.name for path in tmp_path.iterdir()] == ["models--org--other"]


@pytest.mark.parametrize(
    ("query", "message"),
    [("hf://?libary=tf", "did you mean 'library'"), ("hf://?limit=many", "limit is a number")],
)
def test_bad_filters(query: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(list_repositories(query))


def test_without_huggingface_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is not here is refused, and the others are done."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "list").write_text("org/name\n")
    jobs = read_jobs("convert", str(tmp_path / "list"), ["--to", "flax"])
    settings = RunSettings(tmp_path / "out")
    assert run_fleet(Fleet(jobs, settings, workers=1), lambda *_: None)["refused"] == 1


def test_a_filter_without_a_network(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    line = [
        "fleet",
        "convert",
        "hf://?author=org",
        "--out",
        str(tmp_path / "out"),
        "--",
        "--to",
        "flax",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "equipoise", *line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "the Hub cannot be asked" in done.stderr) == (2, True)
