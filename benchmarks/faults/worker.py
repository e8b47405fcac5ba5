"""Judges one fault after the other: the worker of ``python -m faults``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from equipoise.convert.core.errors import InputError
from equipoise.fleet.running.worker_loop import Tell, serve
from equipoise.validators.runtime.process import WorkerPool
from faults.corpus import ARTIFACT, FIXTURES, Fault, read_fault
from faults.judge import Judge, open_judge

TIME_LIMIT_SECONDS = 300
"""Time limit for one request to a backend's process."""


class Judges:
    """The judge of one fixture, which is kept for all its faults in a row: its reference is run once."""

    def __init__(self) -> None:
        self._pools = ExitStack()
        self._current = ExitStack()
        self._key: tuple[str, str] | None = None
        self._judge: Judge | None = None

    def find(self, fixture: str, oracle: str) -> Judge:
        """Returns the judge of a fixture; that of the fixture before it is closed."""
        if self._judge is None or self._key != (fixture, oracle):
            self._current.close()
            self._judge, self._key = None, (fixture, oracle)
            judge = open_judge(FIXTURES / fixture, self._pool(oracle))
            self._judge = self._current.enter_context(judge)
        return self._judge

    def close(self) -> None:
        """Ends all processes."""
        self._current.close()
        self._pools.close()

    @cache  # noqa: B019 - one object for each process
    def _pool(self, oracle: str) -> WorkerPool:
        interpreters = {"oracle": oracle} if oracle else {}
        return self._pools.enter_context(WorkerPool(interpreters, time_limit=TIME_LIMIT_SECONDS))


def main() -> None:
    """Answers requests."""
    judges = Judges()

    def run(arguments: list[str], tell: Tell) -> int:
        _, folder, _, oracle = arguments
        tell(folder)
        fault = read_fault(Path(folder))
        print(json.dumps(judge_fault(fault, Path(folder), judges.find(fault.fixture, oracle))))
        return 0

    serve(run)
    judges.close()


def judge_fault(fault: Fault, folder: Path, judge: Judge) -> dict[str, object]:
    """Returns what is said of a fault, with the module that is expected under PyTorch's name."""
    try:
        judgement = judge.judge(folder / ARTIFACT).as_dict()
    except InputError as error:
        judgement = {"code": error.exit_code, "verdict": "refused", "reasons": [error.message]}
    return {**judgement, "expected": judge.rename_module(fault.module, fault.weight)}


if __name__ == "__main__":
    main()
