"""Measures fleets: how well workers share the work, and what the driver and `status` need at 100,000 jobs.

    python benchmarks/fleet.py [--models 64] [--jobs 100000]

In one run: the same conversions with one worker and with two; the efficiency is half of the ratio of their times, and that
at 64 workers is simulated: measured times of jobs, drawn again and again, are given in order to the worker that is free first, and
each worker's start is added. Then `status` over a folder of many made-up results, half of them done, and the driver over the same jobs, all done. Figures
go to ``benchmarks/results/fleet.json``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from machine import describe_machine  # isort: skip - a script in the same folder, not a package
from measure import run_command  # isort: skip

from equipoise.fleet.core.job_list import source_identity
from equipoise.fleet.core.jobs import Job, installed_software
from equipoise.fleet.core.store import ResultStore

HERE = Path(__file__).parent
RESULT = HERE / "results" / "fleet.json"
GOALS = {"two_workers": 0.85, "simulated_64": 0.85, "driver_mb": 300, "status_seconds": 2.0}
"""Target: least efficiency, most memory and time."""
EQUIPOISE = [sys.executable, "-m", "equipoise"]
SIMULATED_WORKERS = 64
SIMULATED_JOBS = 10_000


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {**workers(Path(folder), given.models), **many_jobs(Path(folder), given.jobs)}
    for name, goal in GOALS.items():
        print(f"{name}: {figures[name]:.2f} (goal {goal})")
    content = {"machine": describe_machine(None), "goals": GOALS, "figures": figures}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


def workers(folder: Path, count: int) -> dict[str, float]:
    """Converts the same models with one worker and with two, in turn."""
    models = folder / "models"
    make_models(models, count)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    jobs: list[float] = []
    for turn in range(3):
        for number in (1, 2):
            out = folder / f"out-{turn}-{number}"
            line = [
                "fleet",
                "convert",
                models,
                "--out",
                out,
                "--workers",
                number,
                "--",
                "--to",
                "flax",
            ]
            # One worker has one core: it would compute on all of them otherwise.
            pinned = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if number == 1 else []
            seconds[number].append(run_command([*pinned, *EQUIPOISE, *map(str, line)]).seconds)
            if number == 1:
                jobs += [
                    json.loads(path.read_text())["run"]["seconds"]
                    for path in out.glob("results/*/*.json")
                ]
            shutil.rmtree(out)
    one, two = (sorted(seconds[number])[1] for number in (1, 2))
    start = max(one - sum(sorted(jobs)) / 3, 0.0)
    return {
        "models": count,
        "one_worker_seconds": one,
        "two_workers_seconds": two,
        "two_workers": one / two / 2,
        "start_seconds": start,
        "simulated_64": simulate(jobs, start, SIMULATED_WORKERS, SIMULATED_JOBS),
    }


def simulate(jobs: Sequence[float], start: float, count: int, number: int) -> float:
    """Returns the efficiency of many workers: the time of the jobs by that of all workers until the last ends."""
    chance = random.Random(1)
    times = [chance.choice(jobs) for _ in range(number)]
    free = [start] * count
    for seconds in times:
        heapq.heapreplace(free, free[0] + seconds)
    return sum(times) / (max(free) * count)


def make_models(folder: Path, count: int) -> None:
    """Writes random BERTs of 30 to 90 MB."""
    import numpy as np
    from safetensors.numpy import save_file

    for index in range(count):
        path = folder / f"bert-{index}"
        path.mkdir(parents=True)
        layers = 2 + index % 5
        config = {
            "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30_000, "hidden_size": 256,
            "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 1024,
            "max_position_embeddings": 512, "type_vocab_size": 2,
        }  # fmt: skip
        (path / "config.json").write_text(json.dumps(config))
        save_file(
            {
                name: np.full(shape, index, np.float32)
                for name, shape in bert_shapes(config).items()
            },
            path / "model.safetensors",
            metadata={"format": "pt"},
        )


def bert_shapes(config: dict[str, object]) -> dict[str, tuple[int, ...]]:
    """Returns the tensors of a BERT."""
    width, wide = 256, 1024
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (30_000, width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }
    linear = {
        "attention.self.query": (width, width), "attention.self.key": (width, width),
        "attention.self.value": (width, width), "attention.output.dense": (width, width),
        "intermediate.dense": (wide, width), "output.dense": (width, wide),
    }  # fmt: skip
    for layer in range(int(str(config["num_hidden_layers"]))):
        for name, shape in linear.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{norm}.weight"] = (width,)
            shapes[f"encoder.layer.{layer}.{norm}.bias"] = (width,)
    return shapes


def many_jobs(folder: Path, count: int) -> dict[str, float]:
    """Measures `status`, and the driver over a list whose jobs are all done."""
    listed = folder / "list"
    sources = [f"owner/model-{index:06}" for index in range(count)]
    listed.write_text("\n".join(sources) + "\n")
    jobs = [
        Job("convert", one, ("--to", "flax"), source_identity(one), installed_software("convert"))
        for one in sources
    ]
    store = ResultStore.create(folder / "many")
    store.add_jobs(jobs)
    for job in jobs[: count // 2]:
        store.write({"key": job.key, "status": "ok", "run": {"seconds": 1.0, "finished": 1.0}})
    status = run_command([*EQUIPOISE, "fleet", "status", str(store.folder)])
    for job in jobs[count // 2 :]:
        store.write({"key": job.key, "status": "ok", "run": {"seconds": 1.0, "finished": 1.0}})
    line = ["fleet", "convert", str(listed), "--out", str(store.folder), "--", "--to", "flax"]
    driver = run_command([*EQUIPOISE, *line])
    return {
        "jobs": count,
        "status_seconds": status.seconds,
        "driver_mb": driver.peak / 1e6,
        "driver_seconds": driver.seconds,
    }


if __name__ == "__main__":
    main()
