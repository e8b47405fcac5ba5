"""Worker processes that the tests of exports share, and the command line over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from equipoise.cli import _validation
from equipoise.validators.workers import Workers

ROOT = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers(time_limit=300) as found:
        yield found


@pytest.fixture
def cli(
    cli: Callable[..., Any], workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs a command over the shared processes: each would begin by importing torch."""

    @contextmanager
    def shared(*arguments: Any) -> Iterator[Workers]:
        yield workers

    monkeypatch.setattr(_validation, "workers", shared)
    return cli
