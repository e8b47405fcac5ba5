"""Worker processes that the tests of exports share, and the command line over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from equipoise.cli import _validation
from equipoise.cli.main import run
from equipoise.validators.workers import Workers

ROOT = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers(time_limit=300) as found:
        yield found


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs a command over the shared processes: each would begin by importing torch."""

    @contextmanager
    def shared(*arguments: Any) -> Iterator[Workers]:
        yield workers

    monkeypatch.setattr(_validation, "workers", shared)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        caught = capsys.readouterr()
        return Outcome(code, caught.out, caught.err)

    return call
