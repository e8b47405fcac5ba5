"""The ways of a target, tried one after the other in a worker process, each with a record of what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.exporters import caching, making
from equipoise.exporters.artifact import Attempt
from equipoise.exporters.base import Caching, Target
from equipoise.exporters.inputs import Inputs
from equipoise.validators.result import Report
from equipoise.validators.setup import Setup
from equipoise.validators.verdict import FINE


@dataclass(frozen=True)
class Made:
    """What a way made.

    Attributes:
        target: The target's name.
        way: The way's name.
        path: The program, or the folder with its graphs.
        folder: What lies in it becomes the artifact.
        how: The way in words.
        about: What the worker said of it: outputs, opset, notes.
        made: Whether there is a program at all.
        tried: Every way, once all is over.
    """

    target: str
    way: str
    path: Path
    folder: Path
    how: str
    about: Mapping[str, Any] = field(default_factory=dict)
    made: bool = True
    tried: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Making:
    """How programs are made of one model.

    Attributes:
        target: The target.
        file: The file that defines it.
        setup: The model and its task.
        folder: Where each way gets a folder of its own.
        inputs: The example.
        patch: A planted fault.
        options: Of the target.
        ways: Which ways; None: all.
        tried: What came of them so far.
    """

    target: Target
    file: str
    setup: Setup
    folder: Path
    inputs: Inputs = field(default_factory=lambda: Inputs({}, {}, {}))
    patch: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    ways: Sequence[str] | None = None
    tried: list[Attempt] = field(default_factory=list)

    def all(self) -> Iterator[Made]:
        """Each way in turn, with a cache first; the next one only when it is asked for."""
        with_cache = self.inputs.caches and isinstance(self.target, Caching)
        for cached in (True, False) if with_cache else (False,):
            for way, how in self.target.ways.items():
                if self.ways is None or way in self.ways:
                    yield self._one(way, f"{how}, with a cache" if cached else how, cached=cached)

    def _one(self, way: str, how: str, *, cached: bool) -> Made:
        setup = self.setup
        setup.request.progress(f"{self.target.name}: {how}")
        folder = self.folder / f"way-{way}{'-cache' * cached}"
        folder.mkdir()
        file = folder / "inputs.npz"
        stored: dict[str, Any] = dict(self.inputs.arrays)
        np.savez(file, **stored)
        path = folder / self.target.program
        start = perf_counter()
        try:
            about = self._call(caching if cached else making, way, file, path)
        except WorkerError as error:
            seconds = perf_counter() - start
            self.tried.append(Attempt(way, how, reason=reason_of(error), seconds=seconds))
            return Made(self.target.name, way, path, folder, how, made=False)
        finally:
            file.unlink()
            setup.make_room()
        self.tried.append(Attempt(way, how, seconds=round(float(about["seconds"]), 3)))
        place = path if path.exists() else folder
        return Made(self.target.name, way, place, folder, how, about)

    def _call(self, worker_side: ModuleType, way: str, file: Path, path: Path) -> dict[str, Any]:
        setup = self.setup
        environment = setup.workers.get("pytorch")
        axes = {
            name: {str(axis): symbol for axis, symbol in one.items()}
            for name, one in self.inputs.axes.items()
        }
        about: dict[str, Any] = environment.call(
            str(worker_side.__file__),
            "make",
            target=self.file,
            way=way,
            folder=str(setup.pytorch.path),
            class_name=setup.class_name,
            inputs=str(file),
            output=str(path),
            axes=axes,
            kwargs=dict(self.inputs.kwargs),
            dtype=setup.request.precision,
            device=setup.request.device,
            patch=self.patch,
            options=dict(self.options),
        )
        return about

    def judged(self, made: Made, report: Report) -> None:
        """Notes the verdict on what the last way made."""
        reason = _where(report)
        self.tried[-1] = replace(self.tried[-1], verdict=report.verdict.value, reason=reason)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CAUSE = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Violation|Unsupported\w*|Interrupt)\b: .*")


def reason_of(error: WorkerError) -> str:
    r"""What went wrong in a line or two: what was told, and the first cause in the trace of the process.

    >>> reason_of(WorkerError("'call' failed: ConversionError: no\nTrace:\nValueError: histc\nConversionError: no"))
    'ConversionError: no (ValueError: histc)'
    """
    lines = [line for line in _COLOUR.sub("", error.message).splitlines() if line.strip()]
    told = lines[0].removeprefix("'call' failed: ").strip()[:300] if lines else "no word of it"
    causes = [line for line in lines[1:] if _CAUSE.fullmatch(line)]
    if causes and not causes[0].startswith(told[:60]):
        return f"{told} ({causes[0][:300]})"
    return told


def _where(report: Report) -> str:
    for result in report.backends:
        if result.failure:
            return f"{result.label}: {result.failure.splitlines()[0][:300]}"
        for case in result.cases:
            for output in case.outputs:
                if output.verdict not in FINE:
                    return f"{result.label}: {case.case}: {output.name}: {output.reason}"
            if case.flips:
                return f"{result.label}: {case.case}: {case.flips[0]}"
    return ""


def no_way(making: Making) -> Exception:
    """The error when nothing came of any way."""
    lines = [f"{one.way}: {one.reason}" for one in making.tried]
    if not lines:
        return InputError("no way is left to try", expected=", ".join(making.target.ways))
    return WorkerError(
        f"every way to {making.target.name} failed", found="\n            ".join(lines)
    )
