"""Counts false alarms of the validator: every trained fixture, every backend, many random variations of the inputs.

    python benchmarks/false_alarms.py [--seeds 20] [--oracle PYTHON] [--programs FOLDER] [--workers N] [--shard I/N] [NAME ...]

A seed shuffles the tokens of a sample (special tokens and padding stay) and adds 10 % noise to images and audio. Programs run
again with two threads, and ONNX Runtime without its optimizer. A job is a fixture.
``--programs`` is the output folder of ``benchmarks/export_fixtures.py``. The figures go to
``benchmarks/results/false-alarms.json`` and ``.md`` (``--name`` gives others); the factors of ``validators/core/tolerance.py`` are based on them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measurement_jobs import add_options, describe_error, finished_jobs, make_job

from equipoise.fleet.core.job_list import source_identity
from equipoise.fleet.core.store import Result
from equipoise.validators.evaluation import host

HERE = Path(__file__).parent
TASKS = HERE.parent / "fixtures" / "tasks"

KNOWN_DIFFERENCES = {
    (
        "mask-generation",
        "tensorflow",
    ): "TFSam has an epsilon of 1e-6 in layer_norm_final_attn where SAM has 1e-5",
}
"""Known real differences by fixture and backend: these are findings, not false alarms."""


def main() -> None:
    """Runs all fixtures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--oracle", default="")
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--name", default="false-alarms", help="of the files with the results")
    add_options(parser)
    given = parser.parse_intermixed_args()
    names = given.names or sorted(path.parent.name for path in TASKS.glob("*/samples.json"))
    programs = str(given.programs.absolute()) if given.programs else ""
    jobs = [
        make_job(
            "draws",
            str(TASKS / name),
            (given.seeds, programs, given.oracle),
            source_identity(str(TASKS / name), [f"{programs}/{name}"] if programs else ()),
        )
        for name in names
    ]
    with finished_jobs("alarms", jobs, HERE / "alarms_worker.py", given, describe) as results:
        rows = [row for job in jobs for row in rows_of(results[job.key])]
        write_results(rows, given.seeds, given.name)


def rows_of(result: Result) -> list[dict[str, Any]]:
    """Returns the rows of a fixture; one with the cause where its worker died."""
    fixture, failure = Path(result["source"]).name, describe_error(result)
    rows: list[dict[str, Any]] = result["summary"].get("rows") or [
        {"fixture": fixture, "backend": "pytorch", "failure": failure}
    ]
    return rows


def describe(result: Result) -> str:
    """Returns the number of draws and alarms of a fixture, and its failures."""
    rows = rows_of(result)
    draws = sum(one.get("draws", 0) for one in rows)
    alarms = sum(len(one.get("alarms", ())) for one in rows)
    return "; ".join(
        [f"{draws} draws, {alarms} alarms", *(one["failure"] for one in rows if one["failure"])]
    )


def write_results(rows: list[dict[str, Any]], seeds: int, name: str) -> None:
    """Writes the figures as JSON and as a Markdown page."""
    folder = HERE / "results"
    about = host.describe_host()
    for one in rows:
        one["known"] = is_known_difference(one)
    values = {
        "machine": about,
        "seeds": seeds,
        "variations": f"{seeds} seeds, one and two threads, and ONNX Runtime with and without its optimizer",
        "rows": rows,
    }
    (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    backends: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in rows:
        variation = f", {one['variation']}" if one.get("variation") else ""
        backends[one["backend"] + variation].append(one)
    lines = [
        "# Alarms without a fault",
        "",
        f"{seeds} draws of the inputs of every trained fixture on every backend that has a form of it;",
        f"{about['processor']}, {about['cores']} cores. Ratio: rms error over the noise that it is held to.",
        "",
        "| backend | fixtures | draws | alarms | findings | failed | largest ratio | median |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for backend, some in backends.items():
        ran = [one for one in some if one.get("draws")]
        lines.append(
            f"| {backend} | {len(ran)} | {sum(one['draws'] for one in ran)} "
            f"| {sum(len(one['alarms']) for one in ran if not is_known_difference(one) and not one['failure'])} "
            f"| {len({one['fixture'] for one in some if is_known_difference(one)})} "
            f"| {sum(bool(one['failure']) for one in some if not is_known_difference(one))} "
            f"| {max((one['ratio'] for one in ran if not is_known_difference(one)), default=0):.2f} "
            f"| {np.median([one['median'] for one in ran]) if ran else 0:.2f} |"
        )
    bad = [one for one in rows if one["failure"] or one.get("alarms")]
    lines += ["", *(f"- {one['fixture']} on {one['backend']}: {describe_row(one)}" for one in bad)]
    (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")


def is_known_difference(one: dict[str, Any]) -> bool:
    """Checks whether a row is a known real difference."""
    return (one["fixture"], one["backend"]) in KNOWN_DIFFERENCES


def describe_row(one: dict[str, Any]) -> str:
    """Returns the description of a row with alarms or a failure."""
    explained = KNOWN_DIFFERENCES.get((one["fixture"], one["backend"]))
    return f"finding: {explained}" if explained else one["failure"] or str(one["alarms"][:1])


if __name__ == "__main__":
    main()
