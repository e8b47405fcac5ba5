"""Drives :mod:`equipoise.validators.worker` in another process, in this or another Python environment."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import numpy.typing as npt

from equipoise.convert.core.errors import WorkerError
from equipoise.validators import worker

Arrays = dict[str, npt.NDArray[Any]]

_KILLED = -9


class Environment:
    """A worker process in the environment of the interpreter ``python``.

    Args:
        python: The interpreter; its environment needs numpy and what the requests use.
        log: File that takes what the libraries print; None throws it away.
        time_limit: Seconds that one request may take; the process is ended when it takes longer.
        memory_limit: Bytes of address space that the process may have.
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

    def request(
        self, op: str, arrays: Mapping[str, npt.NDArray[Any]] | None = None, /, **arguments: Any
    ) -> tuple[dict[str, Any], Arrays]:
        """Sends one request and waits for its answer.

        Raises:
            WorkerError: The worker failed at it (the message carries its traceback), went away, took longer
                than it may, or does not speak the protocol.
        """
        source = cast("BinaryIO", self._process.stdout)
        sink = cast("BinaryIO", self._process.stdin)
        with self._watched(op):
            try:
                # What a process that is gone has said tells more than that it does not listen.
                with suppress(BrokenPipeError):
                    worker.write_frame(sink, {"op": op, **arguments}, dict(arrays or {}))
                frame = worker.read_frame(source)
            except worker.FrameError as error:
                self._process.kill()
                raise WorkerError(
                    f"the process does not answer as a worker during {op!r}: {error}",
                    file=self.python,
                ) from error
            except ValueError as error:  # closed before
                raise WorkerError(self._ended(op), file=self.python) from error
        if frame is None:
            raise WorkerError(self._ended(op), file=self.python)
        answer, results = frame
        if not answer.pop("ok", False):
            failed = WorkerError(f"{op!r} failed: {answer.get('error')}\n{answer.get('trace')}")
            failed.kind = str(answer.get("kind", ""))
            raise failed
        return answer, results

    @contextmanager
    def _watched(self, op: str) -> Iterator[None]:
        """Ends the process when the request takes longer than it may."""
        if self.time_limit is None:
            yield
            return
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self.time_limit, end)
        timer.start()
        failed: WorkerError | None = None
        try:
            yield
        except WorkerError as error:
            failed = error
        finally:
            timer.cancel()
        if late.is_set():
            raise WorkerError(
                f"the worker did not answer {op!r} within {self.time_limit:g} s and was ended",
                file=self.python,
                hint="allow more with --time-limit",
            ) from failed
        if failed is not None:
            raise failed

    def _ended(self, op: str) -> str:
        code = self._process.wait()
        if code == _KILLED:
            return f"the worker was killed during {op!r} (signal 9: most often out of memory)"
        if code < 0:
            return f"the worker crashed during {op!r} (signal {-code})"
        return f"the worker ended during {op!r} with code {code}"

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def call(self, file: str | Path, function: str, **arguments: Any) -> Any:
        """Calls a function of a Python file over there with JSON arguments; its JSON result."""
        answer, _ = self.request("call", file=str(file), function=function, arguments=arguments)
        return answer["result"]

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with suppress(BrokenPipeError):  # what is left in it has nobody to read it
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RemoteModel:
    """A model that lives in an :class:`Environment`.

    Args:
        environment: Where it is loaded.
        backend: A file of ``backends/``: ``pytorch``, ``tensorflow``, ``onnx`` ...
        class_name: PyTorch's class; backends of programs need none.
        folder: The model's folder, or the program.
        options: What ``backends/base.py`` lists: ``dtype``, ``device``, ``threads`` ...

    Attributes:
        info: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of the loading.
        about: What it really runs on.
    """

    _count = 0

    def __init__(
        self,
        environment: Environment,
        backend: str,
        class_name: str,
        folder: str | Path,
        **options: Any,
    ) -> None:
        RemoteModel._count += 1
        self.name = f"model-{RemoteModel._count}"
        self.environment = environment
        answer, _ = environment.request(
            "load",
            model=self.name,
            backend=backend,
            folder=str(folder),
            options=options,
            **{"class": class_name},
        )
        self.info: dict[str, list[str]] = answer["info"]
        self.about: dict[str, Any] = answer["about"]

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], **kwargs: Any) -> Arrays:
        """All float outputs, flattened to dotted names."""
        _, outputs = self.environment.request("run", inputs, model=self.name, kwargs=kwargs)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def names(self) -> dict[str, list[int]]:
        """Shape of every weight by the framework's own name."""
        answer, _ = self.environment.request("names", model=self.name)
        names: dict[str, list[int]] = answer["names"]
        return names

    def renamed(self) -> dict[str, str]:
        """The file's names of weights that the model calls otherwise, with the model's."""
        answer, _ = self.environment.request("renamed", model=self.name)
        renamed: dict[str, str] = answer["renamed"]
        return renamed

    def save(self, folder: str | Path, **options: Any) -> None:
        """The framework's own ``save_pretrained``."""
        self.environment.request("save", model=self.name, folder=str(folder), options=options)

    def drop(self) -> None:
        """Frees the model."""
        self.environment.request("drop", model=self.name)
