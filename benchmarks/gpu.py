"""Runs everything that needs a GPU, in at most ten minutes: tests, verdicts at each precision, JAX programs, speed.

    make gpu    or    python benchmarks/gpu.py [--budget SECONDS] [--only PREFIX] [--again]

Figures go to ``benchmarks/results/gpu-DATE.json`` after each part. A run skips the parts that already succeeded in the file of
the same day and GPU; ``--again`` measures all parts again. The exit code is 0 if every part that ran succeeded, and on a
machine without a GPU.

Equipoise does not have to be installed: the checkout is put on the path. PyTorch with CUDA, transformers, JAX with CUDA,
flax, pytest and the base dependencies are required.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TASKS = ROOT / "fixtures" / "tasks"
LIBRARIES = ("torch", "transformers", "jax", "jaxlib", "flax", "numpy", "tokenizers")
BUDGET_SECONDS = 560
MIN_SECONDS_LEFT = 10
"""A part is not started with less time than this left."""

VALIDATED_MODELS = (
    "text-classification",
    "text-generation",
    "image-classification",
    "automatic-speech-recognition-seq2seq",
    "object-detection",
)
PRECISIONS = ("fp32", "fp16", "bf16")
JAX_MODELS = {
    "text-classification": (),
    "image-classification": (),
    "text-generation": ("--cases", "batch-cache"),
    "translation-t5": ("--cases", "greedy-cache"),
}
"""Models exported to JAX, with options that choose cases: XLA compiles a program for each length, so generative models run one case only."""

SPEED_MODELS = ("bert-base", "gpt2", "vit-base")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One measurement, in processes of its own.

    Attributes:
        name: Key of its figures in the results.
        commands: Commands that run one after the other; the output of the last one is parsed.
        limit: Time limit for all commands together, in seconds.
        read: Parses the figures from the output, which may be truncated, and the folder that replaces ``{out}``.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    limit: float
    read: Callable[[str, Path], Figures]


def list_gpus() -> list[str]:
    """Returns name, memory and driver of each GPU as printed by ``nvidia-smi``; empty if there is no GPU."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def list_parts() -> list[Part]:
    """Returns the parts, the most important ones first."""
    cuda_tests = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.cuda" in path.read_text(encoding="utf-8")
    )
    python = sys.executable
    equipoise = (python, "-m", "equipoise")
    processes = ("--numprocesses", "4") if find_spec("xdist") else ()
    pytest = (python, "-m", "pytest", "-v", "--color", "no", "-m", "cuda", *processes, *cuda_tests)
    cuda = ("--backends", "pytorch", "--device", "cuda", "--json", "{out}/report.json")

    def validate(model: str, *more: str) -> tuple[str, ...]:
        return (*equipoise, "validate", str(TASKS / model), *more, *cuda)

    def in_jax(model: str) -> Part:
        to = ("--to", "stablehlo", "--no-validate", "--force")
        export = (*equipoise, "export", str(TASKS / model), "{out}/program", *to)
        commands = (export, validate(model, "{out}/program", *JAX_MODELS[model]))
        return Part(f"jax/{model}", commands, 90, read_report)

    judged = [
        Part(f"validate/{model}/{one}", (validate(model, "--precision", one),), 45, read_report)
        for one in PRECISIONS
        for model in VALIDATED_MODELS
    ]
    script = str(ROOT / "benchmarks" / "gpu_speed.py")
    return [
        Part("tests", (pytest,), 200, read_tests),
        *judged,
        *(in_jax(model) for model in JAX_MODELS),
        *(
            Part(f"speed/{name}", ((python, script, name),), 90, read_speed)
            for name in SPEED_MODELS
        ),
    ]


def read_tests(output: str, _: Path) -> Figures:
    r"""Returns how many tests passed and the names of the others, from pytest's output.

    >>> read_tests("[gw0] [ 5%] PASSED tests/a.py::one\ntests/a.py::two FAILED  [ 9%]\n", Path())
    {'passed': 1, 'not_passed': {'tests/a.py::two': 'FAILED'}}
    """
    before = re.findall(
        r"^(?:\[gw\d+\][^\n]*? )?(PASSED|FAILED|ERROR|SKIPPED) (tests/\S+)", output, re.MULTILINE
    )
    after = [
        (kind, name)
        for name, kind in re.findall(r"^(tests/\S+) ([A-Z]{5,})\b", output, re.MULTILINE)
    ]
    kinds = {name: kind for kind, name in (*before, *after)}
    others = {name: kind for name, kind in sorted(kinds.items()) if kind != "PASSED"}
    return {"passed": len(kinds) - len(others), "not_passed": others}


def read_report(_: str, out: Path) -> Figures:
    """Returns each backend's verdict, device and seconds, from the report of ``equipoise validate``."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    backends = {
        one["label"]: {
            "verdict": one["verdict"],
            "failure": one["failure"],
            "device": one["about"].get("device"),
            "hardware": one["about"].get("hardware"),
            "seconds": one["seconds"],
            "peak_bytes": one["peak_bytes"],
        }
        for one in report["backends"]
    }
    return {"precision": report["precision"], "verdict": report["verdict"], "backends": backends}


def read_speed(output: str, _: Path) -> Figures:
    """Returns the figures from the last line of the output, which is JSON."""
    found: Figures = json.loads(output.strip().splitlines()[-1])
    return found


def process_variables() -> dict[str, str]:
    """Returns the environment variables of the parts' processes; puts the checkout on the path if Equipoise is not installed."""
    found = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    # By default JAX allocates most of the GPU's memory, so that PyTorch in another process would get none.
    found["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    try:
        installed = find_spec("equipoise.validators") is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        paths = [str(ROOT / "tests" / "typing_root"), found.get("PYTHONPATH", "")]
        found["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return found


def measure_part(part: Part, limit: float, variables: Mapping[str, str]) -> Figures:
    """Runs a part and returns its figures, with ``state``: done, failed or timed out."""
    start = time.monotonic()
    state, output = "done", ""
    with tempfile.TemporaryDirectory(prefix="equipoise-gpu-") as out:
        for command in part.commands:
            filled = [word.replace("{out}", out) for word in command]
            code, output = run_limited(filled, limit - (time.monotonic() - start), variables)
            if code != 0:
                state = "timed out" if code is None else "failed"
                break
        try:
            figures = part.read(output, Path(out))
        except (OSError, ValueError, KeyError, IndexError) as error:
            figures, state = {"unread": repr(error)}, "failed" if state == "done" else state
    if state != "done":
        figures["output"] = output[-2000:]
    return {"state": state, "seconds": round(time.monotonic() - start, 1), **figures}


def run_limited(
    command: list[str], limit: float, variables: Mapping[str, str]
) -> tuple[int | None, str]:
    """Returns the exit code and the output of a command; the code is None if the command reached the limit and was killed with its child processes."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=dict(variables),
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(max(limit, 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        log.seek(0)
        return code, log.read()


def run_parts(
    todo: Iterable[Part], file: Path, about: Figures, budget: float, *, again: bool = False
) -> list[str]:
    """Measures the parts that have no figures yet until the budget is spent; returns the names of those that did not succeed.

    Args:
        todo: The parts.
        file: The results file, written after each part.
        about: The date, the hardware and the versions; figures of another GPU or other versions are discarded.
        budget: Time limit for all parts together, in seconds.
        again: Whether to measure parts that already succeeded too.
    """
    end = time.monotonic() + budget
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() and not again else {}
    same = all(known.get(key) == value for key, value in about.items())
    found: dict[str, Figures] = known["parts"] if known and same else {}
    variables = process_variables()
    others = []
    for part in todo:
        if found.get(part.name, {}).get("state") == "done":
            continue
        left = end - time.monotonic()
        if left < MIN_SECONDS_LEFT:
            print(f"{part.name}: no time left; call again", flush=True)
            others.append(part.name)
            continue
        found[part.name] = figures = measure_part(part, min(part.limit, left), variables)
        print(f"{part.name}: {figures['state']}, {figures['seconds']} s", flush=True)
        if figures["state"] != "done":
            others.append(part.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**about, "parts": found}, indent=1) + "\n", encoding="utf-8")
    return others


def describe_setup(hardware: list[str]) -> Figures:
    """Returns the date, the hardware and the versions of the libraries."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    today = date.today().isoformat()
    return {"date": today, "gpus": hardware, "cores": os.cpu_count(), "versions": versions}


def main(arguments: list[str] | None = None, folder: Path = ROOT / "benchmarks" / "results") -> int:
    """Measures as many parts as the budget allows; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--budget", type=float, default=BUDGET_SECONDS, help="seconds for all parts"
    )
    parser.add_argument(
        "--only", default="", help="prefix of the parts to measure: tests, validate/ ..."
    )
    parser.add_argument("--again", action="store_true", help="also measure parts that succeeded")
    given = parser.parse_args(arguments)
    hardware = list_gpus()
    if not hardware:
        print("no GPU: nvidia-smi is missing or lists none; nothing was measured")
        return 0
    about = describe_setup(hardware)
    file = folder / f"gpu-{about['date']}.json"
    todo = [part for part in list_parts() if part.name.startswith(given.only)]
    others = run_parts(todo, file, about, given.budget, again=given.again)
    print(f"{len(todo) - len(others)} of {len(todo)} parts done, in {file}")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
