"""Converts and publishes ten thousand repositories of a Hub on loopback that fails, with workers that are killed.

    python benchmarks/hub_fleet.py [--repositories 10000] [--folder FOLDER]

The repositories are models of `fixtures/tasks`, twenty architectures, each twentieth with one of five faults. The server answers a twentieth of
all requests with 503; a fifth of the workers that are started are killed by SIGKILL at random. Then every conversion is published as a pull request, twice. What
must hold is counted: each repository has one result, faults are refused and nothing else is, each file of weights was fetched once, each
repository has one pull request. Figures go to ``benchmarks/results/hub-fleet.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / "fleet" / "helpers")]

from faulty_repositories import WEIGHTS, break_repository
from hub_server import Hub, client_environment, serving
from machine import describe_machine

RESULT = HERE / "results" / "hub-fleet.json"
TASKS = HERE.parent / "fixtures" / "tasks"
KINDS = (
    "audio-classification",
    "automatic-speech-recognition-seq2seq",
    "document-question-answering",
    "feature-extraction",
    "fill-mask",
    "image-classification-resnet",
    "image-classification",
    "image-segmentation-semantic",
    "image-to-text",
    "mask-generation",
    "question-answering",
    "summarization",
    "table-question-answering",
    "text-classification",
    "text-generation",
    "token-classification",
    "translation-t5",
    "translation",
    "zero-shot-classification",
    "zero-shot-image-classification",
)
"""Models of as many architectures, all of which TensorFlow has a class for."""
FAULTS = ("no config", "truncated", "unknown type", "pickle", "no weights")
FAULTY_EVERY = 20
FAILING = 0.05
KILLED_SHARE = 0.2


def main() -> None:
    """Runs it and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        figures = measure(Path(folder), given.repositories)
    print(json.dumps(figures, indent=1))
    content = {"machine": describe_machine(None), "figures": figures}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Converts and publishes; returns what was counted."""
    make_repositories(folder / "hub", count)
    hub = Hub(folder / "hub", failing=FAILING, seed=11)
    hub.extra = {name: {"cardData": {"license": "mit"}} for name in hub.repositories()}
    with serving(hub):
        converted = convert(hub, folder, count)
        return {**converted, **publish(hub, folder), "failed_requests": hub.failures}


def make_repositories(root: Path, count: int) -> None:
    """Links the files of the fixtures; a faulty repository has changed copies."""
    kinds = [TASKS / name for name in KINDS]
    for index in range(count):
        folder = root / f"org{index % 97:02}" / f"m{index:05}"
        folder.mkdir(parents=True)
        for path in kinds[index % len(kinds)].iterdir():
            if path.suffix not in (".png", ".wav"):
                (folder / path.name).write_bytes(path.read_bytes())
        if index % FAULTY_EVERY == 0:
            break_repository(folder, FAULTS[index // FAULTY_EVERY % len(FAULTS)])


def command(hub: Hub, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a command of the fleet against the Hub."""
    environment = client_environment(hub, folder / "home")
    line = [sys.executable, "-W", "ignore", "-m", "equipoise", "fleet", *arguments]
    return subprocess.Popen(
        line, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def convert(hub: Hub, folder: Path, count: int) -> dict[str, Any]:
    """Converts all repositories while workers are killed."""
    begin = time.monotonic()
    line = ("convert", "hf://?", "--out", str(folder / "out"), "--workers", "8", "--retry", "5")
    driver = command(hub, folder, *line, "--", "--to", "tensorflow-safetensors")
    started, killed = kill_workers(driver)
    seconds = time.monotonic() - begin
    results = [json.loads(path.read_text()) for path in (folder / "out").glob("results/*/*.json")]
    expected = Counter(("refused" if index % FAULTY_EVERY == 0 else "ok") for index in range(count))
    statuses = Counter(one["status"] for one in results)
    faulty = {one["source"].partition("@")[0] for one in results if one["status"] == "refused"}
    right = {f"hf://org{index % 97:02}/m{index:05}" for index in range(0, count, FAULTY_EVERY)}
    fetched = Counter(n for name, n in hub.downloads.items() if name.endswith((WEIGHTS, ".bin")))
    return {
        "repositories": count,
        "exit_code": driver.returncode,
        "convert_seconds": round(seconds, 1),
        "workers_started": started,
        "workers_killed": killed,
        "statuses": dict(statuses),
        "as_expected": statuses == expected and faulty == right,
        "results_per_source": max(Counter(one["source"] for one in results).values()),
        "fetches_of_a_file": {str(n): c for n, c in sorted(fetched.items())},
        "attacked": (Path.cwd() / "attacked").exists(),
        "attempts": {
            str(n): c for n, c in sorted(Counter(one["run"]["attempts"] for one in results).items())
        },
    }


def kill_workers(driver: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Kills a fifth of the workers, each at a random time; returns how many were seen and killed."""
    chance, seen, doomed, killed = random.Random(5), set(), {}, 0
    while driver.poll() is None:
        time.sleep(0.5)
        found = subprocess.run(
            ["pgrep", "-P", str(driver.pid)], capture_output=True, text=True, check=False
        )
        alive = {int(one) for one in found.stdout.split()}
        for pid in alive - seen:
            seen.add(pid)
            if chance.random() < KILLED_SHARE or len(seen) <= 2:
                doomed[pid] = time.monotonic() + chance.uniform(1, 30)
        for pid in [pid for pid, at in doomed.items() if at <= time.monotonic()]:
            del doomed[pid]
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
        # The workers live long: each minute another one is doomed, so that a fifth of all are.
        if alive and killed < KILLED_SHARE * len(seen) and not doomed:
            doomed[chance.choice(sorted(alive))] = time.monotonic() + chance.uniform(1, 30)
    return len(seen), killed


def publish(hub: Hub, folder: Path) -> dict[str, Any]:
    """Publishes all conversions twice, the second time without the records of the first."""
    found: dict[str, Any] = {}
    out = folder / "out"
    for turn in ("first", "second"):
        begin = time.monotonic()
        code = command(hub, folder, "publish", str(out), "--create-pr", "--workers", "16").wait()
        found[f"publish_{turn}_seconds"] = round(time.monotonic() - begin, 1)
        found[f"publish_{turn}_exit_code"] = code
        for record in (out / "published").glob("*.json"):
            record.unlink()
    pulls = Counter(len(one) for one in hub.writes.pulls.values())
    found["pull_requests_of_a_repository"] = {str(n): c for n, c in sorted(pulls.items())}
    return found


if __name__ == "__main__":
    main()
