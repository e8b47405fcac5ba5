"""Fleets over repositories of a Hub that fails now and then, with workers that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub
from safetensors.numpy import load_file, save_file

pytest.importorskip("huggingface_hub")

from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.hub_filter import list_repositories
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.running.fetching import Fetcher, FetchSettings

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
KINDS = ("text-classification", "image-classification", "fill-mask", "summarization")
MOST_KILLS = 12
"""A slow machine would begin the last job again and again."""
FAULTS = ("no config", "truncated", "unknown type", "pickle", "quantized")


def make_repository(folder: Path, kind: str, fault: str = "") -> None:
    """Writes a repository, with a fault."""
    shutil.copytree(TASKS / kind, folder, ignore=shutil.ignore_patterns("samples.json"))
    weights, config = folder / "model.safetensors", folder / "config.json"
    values = json.loads(config.read_text())
    if fault == "no config":
        config.unlink()
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif fault == "unknown type":
        config.write_text(
            json.dumps({**values, "model_type": "nobody-knows", "architectures": ["NobodyModel"]})
        )
    elif fault == "pickle":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch attacked'\ntR.")
    elif fault == "quantized":
        tensors = load_file(weights)
        name = next(one for one in tensors if one.endswith("query.weight"))
        shape = tensors.pop(name).shape
        for end, dtype in (("qweight", np.int32), ("qzeros", np.int32), ("scales", np.float16)):
            tensors[name.replace("weight", end)] = np.zeros(shape, dtype)
        save_file(tensors, weights)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    server = Hub(tmp_path / "hub", failing=0.05, seed=3)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


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
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    environment["HF_HOME"] = str(out.parent / "home")
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
