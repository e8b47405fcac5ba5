"""Tries the strategies of a target one after the other in a worker process and records the outcome of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.exporters.artifact import Attempt
from equipoise.exporters.artifact_files import onnx_program
from equipoise.exporters.build import BuildRequest
from equipoise.exporters.example_inputs import ExampleInputs
from equipoise.exporters.target import SupportsKvCache, Target, has_fixed_sizes, target_reference
from equipoise.validators.evaluation.context import EvaluationContext
from equipoise.validators.export.example_inputs import FIXABLE_AXES, example_inputs
from equipoise.validators.export.targets import check_target, resolve_target
from equipoise.validators.judgement.results import PASSING_VERDICTS, Report
from equipoise.validators.models.sources import ModelSource

BUILD_MODULE = "equipoise.exporters.build"
"""Called in the worker process by this name."""
MAX_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class ExportedProgramFile:
    """The outcome of one strategy.

    Attributes:
        target: Name of the target.
        way: Name of the strategy.
        path: The program, or the folder with its graphs.
        folder: Its content becomes the artifact.
        how: Description of the strategy.
        about: The worker's report: outputs, opset, notes.
        exists: Whether there is a program at all.
        tried: All attempts, once the export is over.
    """

    target: str
    way: str
    path: Path
    folder: Path
    how: str
    about: Mapping[str, Any] = field(default_factory=dict)
    exists: bool = True
    tried: tuple[Attempt, ...] = ()


class ExportJob:
    """Exports one model to one target.

    Args:
        target: The target.
        reference: What :func:`find_target` takes in the worker process.
        context: The model and its task.
        folder: Each strategy gets a subfolder of it.
        inputs: Example inputs.
        patch: A file with a planted fault, for tests.
        options: Options of the target.
        ways: Names of the strategies to try; None tries all.
        dynamic: Axes (``batch``, ``sequence``) whose size no program may fix.

    Attributes:
        attempts: The outcome of each strategy so far.
    """

    def __init__(
        self,
        target: Target,
        reference: str,
        context: EvaluationContext,
        folder: Path,
        inputs: ExampleInputs,
        *,
        patch: str = "",
        options: Mapping[str, Any] | None = None,
        ways: Sequence[str] | None = None,
        dynamic: Sequence[str] = (),
    ) -> None:
        self.target = target
        self.reference = reference
        self.context = context
        self.folder = folder
        self.inputs = inputs
        self.patch = patch
        self.options = dict(options or {})
        self.ways = ways
        self.dynamic = dynamic
        self.attempts: list[Attempt] = []

    def programs(self) -> Iterator[ExportedProgramFile]:
        """Yields the outcome of each strategy, those with a cache first; the next one runs only when asked for."""
        with_cache = self.inputs.caches and isinstance(self.target, SupportsKvCache)
        for cached in (True, False) if with_cache else (False,):
            for way, how in self.target.ways.items():
                if self.ways is None or way in self.ways:
                    description = f"{how}, with a cache" if cached else how
                    yield self._try(way, description, cached=cached)

    def _try(self, way: str, how: str, *, cached: bool) -> ExportedProgramFile:
        context = self.context
        context.request.progress(f"{self.target.name}: {how}")
        folder = self.folder / f"way-{way}{'-cache' * cached}"
        folder.mkdir()
        inputs = folder / "inputs.npz"
        arrays: dict[str, Any] = dict(self.inputs.arrays)
        np.savez(inputs, **arrays)
        options, precision = self.options, self.context.request.precision
        path = folder / onnx_program(self.target.program, options, precision)
        path.parent.mkdir(parents=True, exist_ok=True)
        start = perf_counter()
        try:
            about = self._build(way, inputs, path, cached=cached)
            self._check_dynamic(about)
        except WorkerError as error:
            seconds = perf_counter() - start
            reason = summarize_worker_error(error)
            self.attempts.append(Attempt(way, how, reason=reason, seconds=seconds))
            return ExportedProgramFile(self.target.name, way, path, folder, how, exists=False)
        finally:
            inputs.unlink()
            context.free_memory()
        self.attempts.append(Attempt(way, how, seconds=round(float(about["seconds"]), 3)))
        program = path if path.exists() else path.parent
        return ExportedProgramFile(self.target.name, way, program, folder, how, about)

    def _check_dynamic(self, about: Mapping[str, Any]) -> None:
        """Checks that a program takes any size of the axes that must be dynamic, as far as its file says.

        Raises:
            WorkerError: It takes one size only.
        """
        graph_inputs = about.get("graph_inputs") or {}
        for name in self.dynamic:
            for array, axes in self.inputs.axes.items():
                shape = graph_inputs.get(array, {}).get("shape", ())
                for axis, size in enumerate(shape):
                    if axes.get(axis) == FIXABLE_AXES[name] and isinstance(size, int):
                        raise WorkerError(f"the program fixes the {name} of {array} at {size}")

    def _build(self, way: str, inputs: Path, path: Path, *, cached: bool) -> dict[str, Any]:
        context = self.context
        axes = {
            name: {str(axis): symbol for axis, symbol in one.items()}
            for name, one in self.inputs.axes.items()
        }
        request = BuildRequest(
            target=self.reference,
            way=way,
            folder=str(context.pytorch.path),
            class_name=context.class_name,
            inputs=str(inputs),
            output=str(path),
            axes=axes,
            cached=cached,
            kwargs=dict(self.inputs.kwargs),
            dtype=context.request.precision,
            device=context.request.device,
            patch=self.patch,
            options=self.options,
        )
        worker = context.pool.get("pytorch")
        about: dict[str, Any] = worker.call(BUILD_MODULE, "build", **asdict(request))
        return about

    def record_verdict(self, report: Report) -> None:
        """Adds the verdict on the latest program to its attempt."""
        verdict, reason = report.verdict.value, _worst_reason(report)
        self.attempts[-1] = replace(self.attempts[-1], verdict=verdict, reason=reason)


_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CAUSE = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Violation|Unsupported\w*|Interrupt)\b: .*")


def summarize_worker_error(error: WorkerError) -> str:
    r"""Returns one line: the reported error, and its first cause from the traceback of the worker.

    >>> summarize_worker_error(
    ...     WorkerError("'call' failed: ConversionError: no\nTrace:\nValueError: histc\nConversionError: no")
    ... )
    'ConversionError: no (ValueError: histc)'
    """
    lines = [line for line in _ANSI_COLOUR.sub("", error.message).splitlines() if line.strip()]
    if not lines:
        return "no message"
    reported = lines[0].removeprefix("'call' failed: ").strip()[:MAX_REASON_CHARACTERS]
    causes = [line for line in lines[1:] if _CAUSE.fullmatch(line)]
    if causes and not causes[0].startswith(reported[:60]):
        return f"{reported} ({causes[0][:MAX_REASON_CHARACTERS]})"
    return reported


def _worst_reason(report: Report) -> str:
    """Returns the first reason in a report why a backend does not pass; empty if all do."""
    for result in report.backends:
        if result.failure:
            return f"{result.label}: {result.failure.splitlines()[0][:MAX_REASON_CHARACTERS]}"
        for case in result.cases:
            for output in case.outputs:
                if output.verdict not in PASSING_VERDICTS:
                    return f"{result.label}: {case.case}: {output.name}: {output.reason}"
            if case.flips:
                return f"{result.label}: {case.case}: {case.flips[0]}"
    return ""


def all_attempts_failed(job: ExportJob) -> Exception:
    """Returns the error for an export without any program."""
    lines = [f"{one.way}: {one.reason}" for one in job.attempts]
    if not lines:
        return InputError("no way is left to try", expected=", ".join(job.target.ways))
    return WorkerError(f"every way to {job.target.name} failed", found="\n            ".join(lines))


def first_program(job: ExportJob) -> ExportedProgramFile:
    """Returns the program of the first strategy that produces one.

    Raises:
        WorkerError: Every strategy failed.
    """
    for program in job.programs():
        if program.exists:
            return replace(program, tried=tuple(job.attempts))
    raise all_attempts_failed(job)


def export_temporarily(context: EvaluationContext, name: str) -> ModelSource:
    """Exports the model of a context into its scratch folder, with the first strategy that succeeds.

    Raises:
        InputError: The target's packages are missing, or its programs only accept one size.
        WorkerError: Every strategy failed.
    """
    target = resolve_target(name)
    if has_fixed_sizes(target):
        raise InputError(
            f"a program of {name} takes inputs of one size, not all cases",
            hint=f"equipoise export MODEL OUT --to {name} judges it at that size",
        )
    check_target(target, {}, context.pool.interpreters)
    folder = context.scratch / f"exported-{name}"
    folder.mkdir()
    program = first_program(
        ExportJob(target, target_reference(name), context, folder, example_inputs(context, {}))
    )
    return ModelSource(name, program.path, f"exported ({program.way})")
