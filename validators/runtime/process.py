"""Worker processes: one drives :mod:`equipoise.validators.runtime.worker` in this or another Python environment."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from equipoise.convert.core.errors import InputError, LimitError, WorkerError
from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.runtime import worker
from equipoise.validators.runtime.interpreters import REQUIRED_MODULES, find_interpreter

_SIGKILL_CODE = -9


class WorkerProcess:
    """A worker process in the environment of an interpreter.

    Args:
        python: The interpreter; its environment needs numpy and whatever the requests use.
        log: File for the output of the libraries; None discards it.
        time_limit: Seconds that one request may take; a process that takes longer is killed.
        memory_limit: Bytes of address space that the process may use.

    Raises:
        WorkerError: There is no such interpreter, or it cannot be started.
    """

    def __init__(
        self,
        python: str | Path,
        log: Path | None = None,
        *,
        time_limit: float | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.python = Path(python)
        self.time_limit = time_limit
        self._unread = 0
        if not self.python.exists():
            raise WorkerError(
                "there is no such interpreter",
                file=self.python,
                hint="make the environment first: `equipoise env create oracle`",
            )
        self._log = open(log, "wb") if log else None  # noqa: SIM115 - closed with the process
        limits = [str(memory_limit)] if memory_limit else []
        try:
            self._process = subprocess.Popen(
                [str(self.python), str(Path(worker.__file__).resolve()), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log or subprocess.DEVNULL,
            )
        except OSError as error:
            raise WorkerError(f"it cannot be started: {error}", file=self.python) from error

    def preload(self, packages: Sequence[str], class_name: str = "") -> None:
        """Lets the process import packages, and a class of transformers, while the caller goes on."""
        sink = cast("BinaryIO", self._process.stdin)
        header = {"op": "preload", "packages": list(packages), "class": class_name}
        with suppress(BrokenPipeError):  # the next request says why the process ended
            worker.write_frame(sink, header, {})
            self._unread += 1

    def request(
        self, op: str, arrays: Mapping[str, Array] | None = None, /, **arguments: Any
    ) -> tuple[dict[str, Any], Arrays]:
        """Sends one request and waits for its answer.

        Raises:
            WorkerError: The worker failed (the message contains its traceback), ended, took longer than the time
                limit, or does not speak the protocol.
        """
        source = cast("BinaryIO", self._process.stdout)
        sink = cast("BinaryIO", self._process.stdin)
        with self._time_limited(op):
            try:
                # The exit code of a process that has ended says more than a broken pipe.
                with suppress(BrokenPipeError):
                    worker.write_frame(sink, {"op": op, **arguments}, dict(arrays or {}))
                for _ in range(self._unread):
                    worker.read_frame(source)
                self._unread = 0
                frame = worker.read_frame(source)
            except worker.FrameError as error:
                self._process.kill()
                raise WorkerError(
                    f"the process does not answer as a worker during {op!r}: {error}",
                    file=self.python,
                ) from error
            except ValueError as error:  # the pipe is closed
                raise WorkerError(self._exit_message(op), file=self.python) from error
        if frame is None:
            raise WorkerError(self._exit_message(op), file=self.python)
        answer, results = frame
        if not answer.pop("ok", False):
            if answer.get("kind") == "MemoryError":
                raise LimitError(
                    f"the worker ran out of memory during {op!r}",
                    file=self.python,
                    hint="allow more with --memory-limit, or leave it out",
                )
            failure = WorkerError(f"{op!r} failed: {answer.get('error')}\n{answer.get('trace')}")
            failure.kind = str(answer.get("kind", ""))
            raise failure
        return answer, results

    @contextmanager
    def _time_limited(self, op: str) -> Iterator[None]:
        """Kills the process if the request takes longer than the time limit."""
        if self.time_limit is None:
            yield
            return
        expired = threading.Event()

        def kill() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(self.time_limit, kill)
        timer.start()
        failure: WorkerError | None = None
        try:
            yield
        except WorkerError as error:
            failure = error
        finally:
            timer.cancel()
        if expired.is_set():
            raise LimitError(
                f"the worker did not answer {op!r} within {self.time_limit:g} s and was ended",
                file=self.python,
                hint="allow more with --time-limit",
            ) from failure
        if failure is not None:
            raise failure

    def _exit_message(self, op: str) -> str:
        code = self._process.wait()
        if code == _SIGKILL_CODE:
            return f"the worker was killed during {op!r} (signal 9: most often out of memory)"
        if code < 0:
            return f"the worker crashed during {op!r} (signal {-code})"
        return f"the worker ended during {op!r} with code {code}"

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def call(self, module: str | Path, function: str, **arguments: Any) -> Any:
        """Calls a function in the worker with JSON arguments; returns its JSON result.

        Args:
            module: Dotted name of a module of Equipoise, or the path of a ``.py`` file.
            function: Name of the function.
            arguments: Keyword arguments.
        """
        answer, _ = self.request("call", module=str(module), function=function, arguments=arguments)
        return answer["result"]

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with suppress(BrokenPipeError):  # unread output of an ended process
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WorkerPool:
    """The worker processes of a command: one for each backend, kept for the next model, replaced when they die.

    Args:
        interpreters: Interpreters chosen by the user, see :func:`find_interpreter`.
        log: A folder for the output of the libraries.
        time_limit: Seconds that one request may take.
        memory_limit: Bytes of address space of each process.
    """

    def __init__(
        self,
        interpreters: Mapping[str, str] | None = None,
        *,
        log: Path | None = None,
        time_limit: float | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.interpreters = dict(interpreters or {})
        self.log = log
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self._processes: dict[str, WorkerProcess] = {}
        self._hello: dict[str, dict[str, Any]] = {}

    def get(self, backend: str, *, suffix: str = "") -> WorkerProcess:
        """Returns the process of a backend; a suffix names a further process for the same backend."""
        key = backend + suffix
        process = self._processes.get(key)
        if process is not None and process.alive:
            return process
        if process is not None:
            process.close()
        log = self.log / f"{Path(key).name}.log" if self.log else None
        self._processes[key] = WorkerProcess(
            find_interpreter(backend, self.interpreters),
            log,
            time_limit=self.time_limit,
            memory_limit=self.memory_limit,
        )
        self._hello.pop(key, None)
        return self._processes[key]

    def preload(self, backend: str, class_name: str = "", *, suffix: str = "") -> None:
        """Starts the process of a backend if it does not run, and lets it import what the backend needs.

        A backend without an environment is left alone: whoever uses it gets the error.
        """
        if backend + suffix not in self._processes:
            with suppress(InputError, WorkerError):
                packages = REQUIRED_MODULES.get(backend, ())
                self.get(backend, suffix=suffix).preload(packages, class_name)

    @property
    def limits(self) -> str:
        """The limits of a process in words."""
        seconds = f"{self.time_limit:g} s a request" if self.time_limit else "no time limit"
        nbytes = f"{self.memory_limit} bytes of address space" if self.memory_limit else ""
        return f"{seconds}, {nbytes or 'no memory limit (--memory-limit sets one)'}"

    def end(self, backend: str, *, suffix: str = "") -> None:
        """Ends the process of a backend to free its memory; the next request starts another."""
        if (process := self._processes.pop(backend + suffix, None)) is not None:
            process.close()

    def hello(self, backend: str, *, suffix: str = "") -> dict[str, Any]:
        """Returns versions and cores of a backend's environment."""
        key = backend + suffix
        process = self.get(backend, suffix=suffix)
        if key not in self._hello:
            self._hello[key], _ = process.request("hello")
        return self._hello[key]

    def close(self) -> None:
        """Ends all processes."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
