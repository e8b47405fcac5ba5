"""Worker processes that stay warm from one command line to the next."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import click
import pytest

from equipoise.cli._worker_options import WarmPools, WorkerOptions, status_line
from equipoise.convert.core.errors import InputError

OPTIONS = WorkerOptions("cpu", (("oracle", "/x/python"),), None, 600.0, None)


def test_processes_stay_while_commands_ask_for_the_same() -> None:
    """Device and threads are told with each request; limits and interpreters are those of a process."""
    with closing(WarmPools()) as pools:
        first = pools.get(OPTIONS)
        assert (first.time_limit, first.interpreters) == (600.0, {"oracle": "/x/python"})
        assert pools.get(replace(OPTIONS, device="cuda", given_threads=3)) is first
        other = pools.get(replace(OPTIONS, time_limit=5.0))
        assert other is not first
        assert other.time_limit == 5.0
        assert pools.get(OPTIONS) is not first


def test_options_as_they_are_typed() -> None:
    options = replace(OPTIONS, environments=(("oracle", "a"), ("flax", "b=c")), memory_limit=7)
    assert options.as_arguments() == [
        *("--device", "cpu", "--env", "oracle=a", "--env", "flax=b=c"),
        *("--time-limit", "600.0", "--memory-limit", "7"),
    ]
    assert replace(OPTIONS, given_threads=0).as_arguments()[:2] == ["--threads", "0"]
    assert (replace(OPTIONS, given_threads=3).threads, OPTIONS.threads > 0) == (3, True)


def test_an_interpreter_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no such interpreter"):
        OPTIONS.check_interpreters()


def test_a_command_of_a_fleet_tells_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """They do not go to stderr, whose end is kept as the last words."""
    steps: list[str] = []
    pools = WarmPools()
    pools.tell = steps.append
    with click.Context(click.Command("validate"), obj=pools).scope(), status_line() as tell:
        tell("reference: single")
    assert (steps, capsys.readouterr().err) == (["reference: single"], "")
