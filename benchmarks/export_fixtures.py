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
        refusal.write_text(json.loads(stdout.getvalue())["message"])
    print(f"{name} {target}: exit code {code}, {time.perf_counter() - start:.0f} s", flush=True)


def failures_section(output: Path) -> str:
    """Returns a section of a Markdown page that lists the exports that produced no program."""
    lines = [
        f"- {path.parent.name}, {path.stem}: {first_sentence(path.read_text())}"
        for path in sorted(output.glob("*/*.txt"))
    ]
    return (
        "\n".join(["", "## Not exported", "", *(lines or ["Every export left a program."])]) + "\n"
    )


def first_sentence(message: str) -> str:
    """Returns the first line of a message, shortened to fit a table cell."""
    line = message.splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]} ..."


if __name__ == "__main__":
    main()
