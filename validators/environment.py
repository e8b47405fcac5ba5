"""Drives :mod:`equipoise.validators.worker` in another Python environment."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import numpy.typing as npt

from equipoise.convert.errors import WorkerError
from equipoise.validators import worker

Arrays = dict[str, npt.NDArray[Any]]


class Environment:
    """A worker process in the environment of the interpreter ``python``.

    Args:
        python: The interpreter; its environment needs numpy and what the requests use.
        log: File that takes what the libraries print; None throws it away.
    """

    def __init__(self, python: str | Path, log: Path | None = None) -> None:
        self.python = Path(python)
        if not self.python.exists():
            raise WorkerError(
                "there is no such interpreter",
                file=self.python,
                hint="make the environment first, e.g. `make oracle`",
            )
        self._log = open(log, "wb") if log else None  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(self.python), str(Path(worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log or subprocess.DEVNULL,
        )

    def request(
        self, op: str, arrays: Mapping[str, npt.NDArray[Any]] | None = None, /, **arguments: Any
    ) -> tuple[dict[str, Any], Arrays]:
        """Sends one request and waits for its answer.

        Raises:
            WorkerError: The worker failed at it (the message carries its traceback) or went away.
        """
        source = cast("BinaryIO", self._process.stdout)
        sink = cast("BinaryIO", self._process.stdin)
        try:
            worker.write_frame(sink, {"op": op, **arguments}, dict(arrays or {}))
            frame = worker.read_frame(source)
        except (BrokenPipeError, ValueError) as error:
            raise WorkerError(f"the worker went away during {op!r}", file=self.python) from error
        if frame is None:
            raise WorkerError(
                f"the worker ended during {op!r} with code {self._process.wait()}", file=self.python
            )
        answer, results = frame
        if not answer.pop("ok"):
            raise WorkerError(f"{op!r} failed: {answer['error']}\n{answer['trace']}")
        return answer, results

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

    Attributes:
        info: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of the loading.
    """

    _count = 0

    def __init__(
        self,
        environment: Environment,
        framework: str,
        class_name: str,
        folder: str | Path,
        *,
        from_pt: bool = False,
        dtype: str | None = None,
    ) -> None:
        RemoteModel._count += 1
        self._name = f"model-{RemoteModel._count}"
        self._environment = environment
        answer, _ = environment.request(
            "load",
            model=self._name,
            framework=framework,
            folder=str(folder),
            from_pt=from_pt,
            dtype=dtype,
            **{"class": class_name},
        )
        self.info: dict[str, list[str]] = answer["info"]

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], **kwargs: Any) -> Arrays:
        """All float outputs, flattened to dotted names."""
        _, outputs = self._environment.request("run", inputs, model=self._name, kwargs=kwargs)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def names(self) -> dict[str, list[int]]:
        """Shape of every weight by the framework's own name."""
        answer, _ = self._environment.request("names", model=self._name)
        names: dict[str, list[int]] = answer["names"]
        return names

    def save(self, folder: str | Path, **options: Any) -> None:
        """The framework's own ``save_pretrained``."""
        self._environment.request("save", model=self._name, folder=str(folder), options=options)

    def drop(self) -> None:
        """Frees the model."""
        self._environment.request("drop", model=self._name)
