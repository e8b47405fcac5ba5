"""Options and environments that tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from equipoise.cli.main import run
from equipoise.validators.runtime.process import WorkerPool, WorkerProcess

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracle",
        default=str(ROOT / ".venv-oracle" / "bin" / "python"),
        help="interpreter of the environment with transformers 4.57.6 (`make oracle`)",
    )
    parser.addoption(
        "--base",
        default=str(ROOT / ".venv-base" / "bin" / "python"),
        help="interpreter of the environment with the base dependencies alone (`make test` makes it)",
    )
    parser.addoption(
        "--write-architectures",
        action="store_true",
        help="write docs/architectures.md from what the tests of tests/oracle/test_families.py find",
    )


@pytest.fixture(scope="session")
def oracle(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """The worker with transformers 4.57.6 and both frameworks; one a test process."""
    log = tmp_path_factory.mktemp("oracle") / "worker.log"
    with pytest.MonkeyPatch.context() as patch:
        # Each program of JAX is compiled here and runs once.
        patch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
        started = WorkerProcess(pytestconfig.getoption("--oracle"), log)
    with started as environment:
        yield environment


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def workers() -> Iterator[WorkerPool]:
    """Worker processes that the tests of a process share: each would begin by importing torch."""
    with WorkerPool(time_limit=300) as pool:
        yield pool


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], workers: WorkerPool) -> Callable[..., Outcome]:
    """Runs a command line in this process, over the shared worker processes."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(one) for one in arguments], pool=workers)
        caught = capsys.readouterr()
        return Outcome(code, caught.out, caught.err)

    return call
