"""The worker processes of a validation: one a backend, kept for the next model, replaced when they die."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from equipoise.validators.runtime.interpreters import python_of
from equipoise.validators.runtime.process import Environment


class Workers:
    """Worker processes by backend.

    Args:
        chosen: ``--env`` of the user, see :func:`python_of`.
        log: A folder for what the libraries print.
        time_limit: Seconds that one request may take.
        memory_limit: Bytes of address space of each process.
    """

    def __init__(
        self,
        chosen: Mapping[str, str] | None = None,
        *,
        log: Path | None = None,
        time_limit: float | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.chosen = dict(chosen or {})
        self.log = log
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self._running: dict[str, Environment] = {}
        self._versions: dict[str, dict[str, Any]] = {}

    def get(self, backend: str, *, apart: str = "") -> Environment:
        """The process of a backend; ``apart`` keeps a second one for the same backend."""
        key = backend + apart
        running = self._running.get(key)
        if running is not None and running.alive:
            return running
        if running is not None:
            running.close()
        log = self.log / f"{Path(key).name}.log" if self.log else None
        self._running[key] = Environment(
            python_of(backend, self.chosen),
            log,
            time_limit=self.time_limit,
            memory_limit=self.memory_limit,
        )
        self._versions.pop(key, None)
        return self._running[key]

    def end(self, backend: str, *, apart: str = "") -> None:
        """Ends the process of a backend, so that all its memory is free; the next request starts another."""
        if (running := self._running.pop(backend + apart, None)) is not None:
            running.close()

    def hello(self, backend: str, *, apart: str = "") -> dict[str, Any]:
        """Versions and cores of a backend's environment."""
        key = backend + apart
        environment = self.get(backend, apart=apart)
        if key not in self._versions:
            self._versions[key], _ = environment.request("hello")
        return self._versions[key]

    def close(self) -> None:
        """Ends all processes."""
        for environment in self._running.values():
            environment.close()
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
