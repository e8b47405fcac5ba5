"""Exports every trained fixture to every target with ``equipoise export``; `make matrix` and `make alarms` read the result.

    python benchmarks/export_fixtures.py OUTPUT [--targets onnx,tflite] [NAME ...]

Writes ``OUTPUT/<fixture>/<target>/``, and ``OUTPUT/failures.md`` with a line for each export that produced no program.
Exports that already exist in OUTPUT are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from pathlib import Path

from equipoise.cli.main import run
from equipoise.exporters.target import target_names
from equipoise.validators.runtime.process import WorkerPool

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tasks"
TIME_LIMIT_SECONDS = 900
"""Seconds for one forward pass or export of a fixture."""

MAX_CHARACTERS = 200
LIMITS = {
    "ConcretizationTypeError": (
        "a limit of JAX: no array has a size that depends on values, such as a waveform as long as predicted durations"
    ),
    "the target's programs have one": (
        "a limit of TensorFlow Lite: TensorFlow's converter fails where sizes are not fixed (2.21)"
    ),
}
"""Part of a message -> whose limit it is."""


def main() -> None:
    """Exports the chosen fixtures and writes the list of failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--targets", default=",".join(target_names()), help="separated by commas")
    given = parser.parse_intermixed_args()
    names = given.names or sorted(path.parent.name for path in FIXTURES.glob("*/samples.json"))
    for name in names:
        with WorkerPool(time_limit=TIME_LIMIT_SECONDS) as pool:
            for target in given.targets.split(","):
                export_fixture(name, target, given.output / name / target, pool)
    (given.output / "failures.md").write_text(failures_section(given.output))


def export_fixture(name: str, target: str, output: Path, pool: WorkerPool) -> None:
    """Exports one fixture to one target; writes the error to ``<output>.txt`` if the export is refused."""
    refusal = output.with_suffix(".txt")
    if output.exists() or refusal.exists():
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    command = ["export", str(FIXTURES / name), str(output), "--to", target, "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        code = run([*command, "--threads", "1"], pool=pool)
    if not output.exists():
        error = json.loads(stdout.getvalue())
        refusal.write_text("\n".join(filter(None, (error["message"], error.get("found")))))
    print(f"{name} {target}: exit code {code}, {time.perf_counter() - start:.0f} s", flush=True)


def failures_section(output: Path) -> str:
    """Returns a section of a Markdown page that lists the exports that produced no program."""
    lines = [
        f"- {path.parent.name}, {path.stem}: {describe_refusal(path.read_text())}"
        for path in sorted(output.glob("*/*.txt"))
    ]
    return (
        "\n".join(["", "## Not exported", "", *(lines or ["Every export left a program."])]) + "\n"
    )


def describe_refusal(message: str) -> str:
    """Returns why an export left no program, in one line: what it said, and whose limit that is.

    >>> describe_refusal("summarization runs the model at 14 sizes, and the target's programs have one")[-61:]
    "TensorFlow's converter fails where sizes are not fixed (2.21)"
    """
    first, _, found = message.partition("\n")
    reason = found.partition("\n")[0].partition(" (")[0]
    text = f"{first}: {reason}" if reason else first
    text = text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ..."
    limit = next((limit for pattern, limit in LIMITS.items() if pattern in message), "")
    return f"{text}; {limit}" if limit else text


if __name__ == "__main__":
    main()
