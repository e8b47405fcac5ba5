"""Options and fixtures that all tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from equipoise.cli.main import run
from equipoise.validators.models.sources import backend_names
from equipoise.validators.runtime.process import WorkerPool, WorkerProcess

ROOT = Path(__file__).parents[1]


os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
"""Each JAX program of a test is compiled for one or two runs: less optimization compiles in a quarter of the time."""

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Tests use tiny models, and run in as many processes as there are cores."""


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
        "--packages",
        default=str(ROOT / ".packages"),
        help="folder with the unpacked packages of constraints/packages.txt (`make test` makes it)",
    )
    parser.addoption(
        "--consumers",
        default=str(ROOT / ".venv-consumers" / "bin" / "python"),
        help="interpreter of the environment with programs of others that load artifacts (`make test` makes it)",
    )
    parser.addoption(
        "--node",
        default=str(ROOT / ".node"),
        help="folder with the packages of constraints/package.json (`make test` makes it)",
    )
    parser.addoption(
        "--write-architectures",
        action="store_true",
        help="write docs/architectures.md from what the tests of tests/oracle/test_families.py find",
    )


def sees_gpu() -> bool:
    """Returns whether PyTorch would find a GPU, without importing it, which takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if find_spec("torch") is None or version("torch").endswith("+cpu"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or which("nvidia-smi") is not None


NEED_GPU = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects tests that need a GPU where there is none."""
    if sees_gpu():
        return
    without = [item for item in items if item.get_closest_marker("cuda")]
    if without:
        config.stash[NEED_GPU] = len(without)
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("cuda")]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends the number of deselected tests from a pytest-xdist worker to the main process."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["need_gpu"] = session.config.stash.get(NEED_GPU, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Stores the number of deselected tests, which is the same in every worker."""
    node.config.stash[NEED_GPU] = getattr(node, "workeroutput", {}).get("need_gpu", 0)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints one line instead of a skip for each test."""
    if number := config.stash.get(NEED_GPU, 0):
        terminalreporter.write_line(
            f"{number} tests marked cuda deselected: PyTorch sees no GPU here (run them with `make gpu`)"
        )


@pytest.fixture(scope="session")
def oracle(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """Starts a worker process with transformers 4.57.6 and both frameworks; one for each test process."""
    log = tmp_path_factory.mktemp("oracle") / "worker.log"
    with WorkerProcess(pytestconfig.getoption("--oracle"), log) as environment:
        yield environment


@dataclass(frozen=True)
class Outcome:
    """Result of a command line."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Returns standard output parsed as one JSON document."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def worker_pool() -> Iterator[WorkerPool]:
    """Worker processes that all tests of a process share: starting one imports torch."""
    with WorkerPool(time_limit=300) as pool:
        yield pool


@pytest.fixture(scope="module")
def workers(worker_pool: WorkerPool) -> Iterator[WorkerPool]:
    """The shared worker processes; those of other frameworks than PyTorch end with a module, to free their memory."""
    yield worker_pool
    for backend in backend_names():
        if backend != "pytorch":
            worker_pool.end(backend)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], workers: WorkerPool) -> Callable[..., Outcome]:
    """Returns a function that runs a command line in this process with the shared worker processes."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(one) for one in arguments], pool=workers)
        caught = capsys.readouterr()
        return Outcome(code, caught.out, caught.err)

    return call
