"""``equipoise fleet``: runs many conversions, validations or exports, each once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from equipoise.cli import _output, _run, _validation
from equipoise.cli._types import ByteSize, Duration, NameValue, PathName
from equipoise.fleet.core.commands import COMMANDS
from equipoise.fleet.core.statuses import STATUSES

if TYPE_CHECKING:
    from equipoise.fleet.publishing.plan import Publication
    from equipoise.fleet.status import FleetStatus

_EXIT_CODES = {
    "difference": _run.EXIT_DIFFERENCE,
    "failed": _run.EXIT_BACKEND_FAILED,
    "refused": _run.EXIT_BAD_INPUT,
}
"""Status -> exit code, the one that counts most first."""


_NOT_IN_A_FLEET = frozenset({"--dry-run", "--help", "-h", "--version", "--json"})
"""Options with which a command does not do its work, or which a fleet gives itself."""


class Shard(click.ParamType[tuple[int, int]]):
    """``I/N``: the I-th of N parts."""

    name = "I/N"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Returns number and count."""
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is not I/N with I from 1 to N", param, ctx)
        return int(number), int(count)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run many conversions, validations or exports; a job that is done is never done again.

    LIST has a source a line, or `{"source": ..., "options": {"to": "flax"}}`, or is a folder of models, or a filter of
    the Hub: `hf://?library=tf&task=fill-mask&author=NAME`. Options of the command itself follow `--`. Kill it at any time: the same line goes on.
    """


def _fleet_options(run: Callable[..., int]) -> Callable[..., int]:
    options = (
        click.argument("job_list", metavar="LIST"),
        click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS]"),
        click.option("--out", "results", required=True, type=PathName(), help="The folder of the results."),
        click.option("--executor", default="local", show_default=True, help="Where jobs run: local, or a plug-in."),
        click.option("--workers", type=click.IntRange(0), default=0, help="Jobs at once; default: what there is room for."),
        click.option("--resources", type=NameValue(), multiple=True, help="NAME=NUMBER that a worker needs: cpu=4, gpu=1; repeatable."),
        click.option("--shard", type=Shard(), help="Run the I-th of N parts; `status` takes the folders of all."),
        click.option("--retry", type=click.IntRange(0), default=2, show_default=True, help="Begin a job again so often after its worker died."),
        click.option("--time-limit", type=Duration(), help="Longest time of a job, e.g. 30m; it has failed then."),
        click.option("--memory-limit", type=click.IntRange(1), metavar="MB", help="Largest address space of a worker in MB."),
        click.option("--keep-downloads", is_flag=True, help="Download to huggingface_hub's own cache; default: a folder that is emptied job by job."),
        click.option("--disk-budget", type=ByteSize(), help="Fetch nothing ahead while downloads fill so much: 50GB, 500MB."),
        click.option("--redo", type=click.Choice(STATUSES), multiple=True, help="Do jobs with this status again; repeatable."),
        _run.json_option,
    )  # fmt: skip
    for option in reversed(options):
        run = option(run)
    return run


def _run_fleet(
    name: Any,
    job_list: str,
    options: tuple[str, ...],
    results: Path,
    executor: str,
    workers: int,
    resources: tuple[tuple[str, str], ...],
    shard: tuple[int, int] | None,
    retry: int,
    time_limit: float | None,
    memory_limit: int | None,
    keep_downloads: bool,
    disk_budget: int | None,
    redo: tuple[str, ...],
    as_json: bool,
) -> int:
    from equipoise.fleet.core.job_list import read_jobs
    from equipoise.fleet.drive import Fleet, run_fleet
    from equipoise.fleet.running.fetching import FetchSettings, download_folder
    from equipoise.fleet.running.job_runner import RunSettings
    from equipoise.fleet.running.worker_process import Limits
    from equipoise.fleet.status import fleet_status

    _check_options(name, options, is_complete=Path(job_list).is_dir())
    jobs = read_jobs(name, job_list, options)
    # One of those with the same options stands for all: there may be a hundred thousand.
    options_of = {tuple(one for one in job.arguments if one[:1] == "-"): job for job in jobs}
    for job in options_of.values():
        _check_arguments(name, job.arguments)
    fleet = Fleet(
        jobs=jobs,
        settings=RunSettings(
            results.absolute(),
            retry,
            Limits(time_limit, memory_limit),
            FetchSettings(None if keep_downloads else download_folder(results), disk_budget),
        ),
        executor=executor,
        workers=workers,
        resources=_numbers(resources),
        shard=shard,
        redo=redo,
    )
    counts = run_fleet(fleet, _tell, _tell_waiting)
    _print_status(fleet_status([results]), as_json=as_json)
    codes = [code for status, code in _EXIT_CODES.items() if counts[status]]
    return codes[0] if codes else _run.EXIT_OK


def _check_options(name: str, options: tuple[str, ...], *, is_complete: bool) -> None:
    """Checks options as the command itself does.

    Args:
        name: The command.
        options: The options.
        is_complete: Whether none may be missing; those of all jobs of a file may be in its lines.

    Raises:
        UsageError: It does not know them.
    """
    from equipoise.cli.main import root

    context = click.get_current_context()
    command = root.get_command(context, name)
    assert command is not None
    paths = ["SOURCE"] if name == "validate" else ["SOURCE", "OUTPUT"]
    try:
        command.make_context(name, [*paths, *options], parent=context)
    except click.MissingParameter:
        if is_complete:
            raise


def _check_arguments(name: str, arguments: tuple[str, ...]) -> None:
    """Checks that arguments of a job leave its source and its output to the fleet.

    Raises:
        InputError: One is an option that does not run the command, or writes elsewhere.
    """
    from equipoise.convert.core.errors import InputError

    for one in arguments:
        if one.partition("=")[0] in _NOT_IN_A_FLEET:
            raise InputError(
                f"the option {one} does not belong to jobs of a fleet",
                hint="`equipoise fleet report` writes JSON and HTML over all jobs",
            )
    _check_options(name, arguments, is_complete=True)


def _tell(result: dict[str, Any], number: int, count: int) -> None:
    error = result["error"] or {}
    verdict = str(result["summary"].get("verdict") or error.get("message", "")).partition("\n")[0]
    _output.echo(
        f"[{number}/{count}] {result['status']}  {result['source']}  {verdict[:160]}", err=True
    )


def _tell_waiting(count: int) -> None:
    _output.echo(f"{count} more are run by other processes; waiting for them", err=True)


def _numbers(resources: tuple[tuple[str, str], ...]) -> dict[str, float]:
    from equipoise.convert.core.errors import InputError

    found = {}
    for name, value in resources:
        try:
            found[name] = float(value)
        except ValueError as error:
            raise InputError(f"the resource {name} takes a number", found=value) from error
        if not 0 < found[name] < math.inf:
            raise InputError(f"the resource {name} takes a number above 0", found=value)
    return found


def _print_status(status: FleetStatus, *, as_json: bool) -> None:
    if as_json:
        _run.print_json(status.as_dict())
        return
    rows = [[name, str(count)] for name, count in status.done.items()]
    rows += [["running", str(status.running)], ["left", str(status.left)]]
    _output.print_table(("status", "jobs"), rows)
    if status.left and status.seconds_left is not None:
        minutes = status.seconds_left / 60
        _output.echo(
            f"about {minutes:.0f} minutes left" if minutes >= 1 else "less than a minute left"
        )


for _name in COMMANDS:
    _callback = _run.handle_errors(partial(_run_fleet, _name))
    command.add_command(
        click.command(_name, help=f"Run `equipoise {_name}` on every source of LIST.")(
            _fleet_options(_callback)
        )
    )


@command.command("status")
@click.argument("results", nargs=-1, required=True, type=PathName())
@_run.json_option
@_run.handle_errors
def status_command(results: tuple[Path, ...], as_json: bool) -> int:
    """Show how many jobs are done, failed and left, and how long the rest takes.

    RESULTS are the folders of `--out`: one, or one a shard.
    """
    from equipoise.fleet.status import fleet_status

    _print_status(fleet_status(results), as_json=as_json)
    return _run.EXIT_OK


@command.command("report")
@click.argument("results", nargs=-1, required=True, type=PathName())
@click.option("--html", "page", type=PathName(), help="Write one HTML page over all jobs.")
@click.option(
    "--json", "json_file", type=PathName(), help="Write all results as JSON; - is stdout."
)
@_run.handle_errors
def report_command(results: tuple[Path, ...], page: Path | None, json_file: Path | None) -> int:
    """Write one page over all jobs, the worst first, or all their results as one JSON document.

    RESULTS are the folders of `--out`: one, or one a shard.
    """
    import json

    from equipoise.convert.core.errors import InputError
    from equipoise.fleet.report.page import to_html
    from equipoise.fleet.report.rows import read_results, read_rows

    if page is None and json_file is None:
        raise InputError("no report is asked for", expected="--html FILE, --json FILE or both")
    _validation.check_reports(page, json_file)
    if page is not None:
        _validation.write_report(page, to_html(read_rows(results), page.absolute()))
    if json_file is not None:
        text = json.dumps(read_results(results), indent=1) + "\n"
        _validation.write_report(json_file, text)
    return _run.EXIT_OK


@command.command("publish")
@click.argument("results", nargs=-1, required=True, type=PathName())
@click.option(
    "--create-pr", is_flag=True, help="Open pull requests; default: commits to the main branch."
)
@click.option("--dry-run", is_flag=True, help="Show what would be published, and publish nothing.")
@click.option(
    "--license",
    "licenses",
    multiple=True,
    help="Publish repositories with this licence too; repeatable.",
)
@click.option("--gated", is_flag=True, help="Publish gated repositories too.")
@click.option(
    "--workers", type=click.IntRange(1), default=4, show_default=True, help="Repositories at once."
)
@_run.json_option
@_run.handle_errors
def publish_command(
    results: tuple[Path, ...],
    create_pr: bool,
    dry_run: bool,
    licenses: tuple[str, ...],
    gated: bool,
    workers: int,
    as_json: bool,
) -> int:
    """Publish the conversions of repositories to them: weights, equipoise.json, a section of the model card.

    Each is published once: a pull request that is open is updated, one that was closed or merged stays.
    """
    from dataclasses import asdict

    from equipoise.fleet.publishing.plan import plan_publications
    from equipoise.fleet.publishing.publisher import Publisher, PublishSettings

    planned = plan_publications(results)
    if dry_run:
        _show_plan(planned, as_json=as_json)
        return _run.EXIT_OK
    publisher = Publisher(PublishSettings(create_pr, licenses, gated))
    outcomes = []
    for number, found in enumerate(publisher.publish_all(planned, workers), 1):
        outcomes.append(found)
        line = f"[{number}/{len(planned)}] {found.state}  {found.repository}  {found.text}"
        _output.echo(line, err=True)
    if as_json:
        _run.print_json([asdict(found) for found in outcomes])
    states = {found.state for found in outcomes}
    if "failed" in states:
        return _run.EXIT_BACKEND_FAILED
    return _run.EXIT_BAD_INPUT if "refused" in states else _run.EXIT_OK


def _show_plan(planned: list[Publication], *, as_json: bool) -> None:
    if as_json:
        _run.print_json(
            [
                {
                    "repository": one.repository,
                    "title": one.title,
                    "files": {name: path.stat().st_size for name, path in one.files.items()},
                    "section": one.section,
                }
                for one in planned
            ]
        )
        return
    for one in planned:
        _output.echo(f"{one.repository}: {one.title}")
        for name, path in one.files.items():
            _output.echo(f"  {name}  {path.stat().st_size} bytes")
        for line in one.section.splitlines():
            _output.echo(f"  | {line}")
