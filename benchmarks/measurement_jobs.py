"""Runs a measurement as jobs of a fleet: killed at any time, the same command does what is left; finished, it begins anew.

Each measurement has a program of its own for its workers, which calls :func:`equipoise.fleet.running.worker_loop.serve`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from equipoise.cli.fleet import Shard
from equipoise.fleet.core.jobs import Job, installed_software
from equipoise.fleet.core.store import Result, ResultStore
from equipoise.fleet.core.unfinished import unfinished_run
from equipoise.fleet.drive import Fleet, run_fleet
from equipoise.fleet.running.job_runner import RunSettings
from equipoise.fleet.running.worker_process import Limits

CACHE = Path(__file__).parents[1] / ".cache"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all measurements have."""
    parser.add_argument("--workers", type=int, default=1, help="jobs at once")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        type=lambda text: Shard().convert(text, None, None),
        help="run the I-th of N parts; results of others are taken once their files lie in the same folder of .cache",
    )


def make_job(
    command: str, source: str, arguments: Sequence[object] = (), content: object = None
) -> Job:
    """Returns a job.

    Args:
        command: What the worker does.
        source: With what.
        arguments: Further words of the command line.
        content: What else decides the result, such as the content of files.
    """
    identity = sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return Job(command, source, tuple(map(str, arguments)), identity, installed_software("export"))


@contextmanager
def finished_jobs(
    name: str,
    jobs: Sequence[Job],
    worker: Path,
    given: argparse.Namespace,
    describe: Callable[[Result], str],
    *,
    limits: Limits | None = None,
    retries: int = 1,
) -> Iterator[Mapping[str, Result]]:
    """Runs the jobs that have no result and yields all results by the jobs' keys.

    They are kept in ``.cache/NAME`` until the context ends without an error.

    Args:
        name: Of the measurement.
        jobs: All jobs.
        worker: The program of the workers.
        given: The options of the command line.
        describe: Describes a result in a line, which is printed.
        limits: What each worker may use.
        retries: How often a job is begun again whose worker died.
    """

    def tell(result: Result, number: int, count: int) -> None:
        seconds = f"{result['run']['seconds']:.1f} s"
        print(f"[{number}/{count}]", result["source"], seconds, describe(result), flush=True)

    with unfinished_run(CACHE / name, jobs) as folder:
        settings = RunSettings(folder, retries, limits or Limits(), worker=str(worker))
        run_fleet(Fleet(jobs, settings, workers=given.workers, shard=given.shard), tell)
        store = ResultStore.open(folder)
        done = {job.key: store.read(job.key) for job in jobs if store.is_done(job.key)}
        if len(done) < len(jobs):
            raise SystemExit(
                f"{len(done)} of {len(jobs)} jobs are done, their results are in {folder}"
            )
        yield done


def describe_error(result: Result) -> str:
    """Returns the first line of why a job has no answer; empty if it has one."""
    return str((result["error"] or {}).get("message", "")).partition("\n")[0]
