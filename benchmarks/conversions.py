"""Measures every pair of containers against one copy, one sync and one SHA-256 pass of the same file, in one run.

    python benchmarks/conversions.py [--rounds N] [--only MODEL] [--work FOLDER] [--quiet-seconds S]

The two sides run in turns, and the fastest run of each counts: on a machine that others use too, everything else measures them. Results go
to ``benchmarks/results/conversions.json`` and ``.md``; with ``--only`` the results of the other models are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import describe_machine  # isort: skip - scripts in the same folder, not a package
from measure import remove_and_wait, run_command, warm_page_cache  # isort: skip
from models import MODELS  # isort: skip

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "conversions.json"
FORMATS = ("pytorch-safetensors", "pytorch-bin", "tensorflow-h5", "flax-msgpack")
BUNDLE = "tensorflow-checkpoint"
GOAL = 1.2
"""Target: largest time of a conversion, as a multiple of copy, sync and one SHA-256 pass."""
_IDLE_SHARE = 0.8
_BLOCK_BYTES = 1 << 20


def make_sources(name: str, work: Path) -> list[Path]:
    """Writes a model in every format that is a source; returns the folders."""
    folders = [work / form for form in FORMATS]
    run_command([sys.executable, HERE / "models.py", name, folders[0]])
    for folder in folders[1:]:
        convert(folders[0], folder)
    bundle = work / BUNDLE
    run_command([sys.executable, HERE / "tensor_bundle.py", work / "tensorflow-h5", bundle])
    return [*folders, bundle]


def convert(source: Path, target: Path, form: str = "") -> dict[str, float]:
    """Converts a folder in a process of its own and returns the measurements."""
    command = [sys.executable, HERE / "ours.py", "convert", source, target, form or target.name]
    sample = run_command(command)
    assert sample.call is not None
    return {"whole": sample.seconds, "call": sample.call, "cpu": sample.cpu, "peak": sample.peak}


def measure_yardstick(source: Path, out: Path) -> dict[str, float]:
    """Copies the weights of a folder, waits for the disk, and hashes them once; returns the seconds of each."""
    file = max(source.iterdir(), key=lambda path: path.stat().st_size)
    out.mkdir()
    copied = run_command(["sh", "-c", 'cp "$0" "$1" && sync "$1"', file, out / file.name])
    state, buffer = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    began = time.perf_counter()
    with open(file, "rb", buffering=0) as opened:
        while size := opened.readinto(buffer):
            state.update(buffer[:size])
    return {"copy": copied.seconds, "hash": time.perf_counter() - began}


def wait_until_idle(seconds: float) -> None:
    """Waits until the processors are mostly idle, for at most so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = _processor_times()
        time.sleep(0.5)
        spent = [new - old for new, old in zip(_processor_times(), before, strict=True)]
        if spent[3] >= _IDLE_SHARE * sum(spent):
            return


def _processor_times() -> list[int]:
    """Returns the ticks of all processors by use; the fourth number is idle."""
    with open("/proc/stat") as file:
        return [int(word) for word in file.readline().split()[1:9]]


def measure_model(name: str, work: Path, rounds: int, patience: float) -> dict[str, Any]:
    """Returns the measurements of all pairs of one model: the fastest run of each, and all runs."""
    sources = make_sources(name, work)
    out = work / "out"
    yardsticks: dict[str, list[dict[str, float]]] = {source.name: [] for source in sources}
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        for source in sources:
            for target in ("", *FORMATS):
                remove_and_wait(out)
                warm_page_cache(source)
                wait_until_idle(patience)
                if not target:
                    yardsticks[source.name].append(measure_yardstick(source, out))
                elif target != source.name:
                    row = convert(source, out, target)
                    runs.setdefault((source.name, target), []).append(row)
                    print(f"  {number + 1}: {source.name} -> {target}: {row}", flush=True)
    remove_and_wait(out)
    pairs = [summarize(key, found, yardsticks[key[0]]) for key, found in runs.items()]
    size = max(path.stat().st_size for path in sources[0].iterdir())
    return {"title": MODELS[name].title, "bytes": size, "rounds": rounds, "pairs": pairs}


def summarize(
    pair: tuple[str, str], runs: Sequence[Mapping[str, float]], yardsticks: Sequence[Any]
) -> dict[str, Any]:
    """Returns the row of a pair: the fastest copy, hash, conversion and call, and the highest peak."""
    fastest = {key: min(run[key] for run in runs) for key in ("whole", "call", "cpu")}
    yardstick = {key: min(one[key] for one in yardsticks) for key in ("copy", "hash")}
    return {
        "source": pair[0],
        "target": pair[1],
        **yardstick,
        **fastest,
        "peak": max(run["peak"] for run in runs),
        "all": [round(run["call"], 3) for run in runs],
        "all_yardsticks": [round(one["copy"] + one["hash"], 3) for one in yardsticks],
    }


def ratio(pair: Mapping[str, float], what: str = "call") -> float:
    """Returns the time of a conversion as a multiple of copy, sync and hash."""
    return pair[what] / (pair["copy"] + pair["hash"])


def render_page(results: Mapping[str, Any]) -> str:
    """Returns the page in Markdown."""
    machine = results["machine"]
    parts = [
        f"""# Conversions against a copy and a hash, {machine["date"]}

{machine["cpu"]}, {machine["cores"]} cores, {machine["system"]}; load average {machine["load"]} at the start, {machine["load_at_end"]} at the
end: others used the machine too. `copy` is `cp` and `sync` of the source's weights, `hash` one SHA-256 pass of hashlib over them; `call` is the conversion without the start
of Python and imports, `whole` the process, `processor` the seconds that all its threads computed. The ratios are to copy and hash together; the goal is {GOAL}.
Random float32 weights, page cache warm, both sides in turns, the fastest of all rounds each (`benchmarks/conversions.py`)."""
    ]
    for model in results["models"].values():
        lines = [
            f"## {model['title']}: {model['bytes'] / 1e9:.2f} GB, {model['rounds']} rounds",
            "",
            "| from | to | copy | hash | call | ratio | whole | ratio | processor | peak |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        lines += [
            f"| {one['source']} | {one['target']} | {one['copy']:.2f} s | {one['hash']:.2f} s | {one['call']:.2f} s | {ratio(one):.2f} "
            f"| {one['whole']:.2f} s | {ratio(one, 'whole'):.2f} | {one['cpu']:.2f} s | {one['peak'] / 1e6:.0f} MB |"
            for one in model["pairs"]
        ]
        over = [one for one in model["pairs"] if ratio(one) > GOAL]
        lines += ["", f"{len(over)} of {len(model['pairs'])} calls are over the goal."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measures the models and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("tiny", "bert-base", "bert-3gb"))
    parser.add_argument("--work", type=Path, help="a folder on the disk that is measured")
    parser.add_argument(
        "--quiet-seconds", type=float, default=20, help="longest wait for idle processors"
    )
    given = parser.parse_args()
    models: dict[str, Any] = {}
    if given.only and RESULTS.exists():
        models = json.loads(RESULTS.read_text())["models"]
    machine = describe_machine(None)
    for name in [given.only] if given.only else ["bert-base", "bert-3gb"]:
        print(MODELS[name].title, flush=True)
        with tempfile.TemporaryDirectory(dir=given.work, prefix="equipoise-bench-") as work:
            models[name] = measure_model(name, Path(work), given.rounds, given.quiet_seconds)
    machine["load_at_end"] = round(os.getloadavg()[0], 2)
    results = {"machine": machine, "models": models}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(render_page(results))
    print(render_page(results))


if __name__ == "__main__":
    main()
