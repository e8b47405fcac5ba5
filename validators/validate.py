"""Validates a model: runs its task on every backend and judges each against PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.convert.core.hints import did_you_mean
from equipoise.convert.files.output_folder import OutputFolder
from equipoise.exporters.target import target_names
from equipoise.validators.core.request import Request
from equipoise.validators.evaluation.context import (
    REFERENCE_PROCESS,
    EvaluationContext,
    prepare_context,
)
from equipoise.validators.evaluation.evaluate import evaluate_backend, open_auditor
from equipoise.validators.evaluation.golden import Golden, load_golden, save_golden
from equipoise.validators.evaluation.locate import locate_divergence
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.evaluation.report_builder import build_report
from equipoise.validators.export.attempts import export_temporarily
from equipoise.validators.judgement.results import BackendResult, Report
from equipoise.validators.models.sources import (
    ModelSource,
    backend_names,
    class_backends,
    is_class_backend,
    name_user_paths,
    resolve_artifact,
    resolve_model,
    with_distinct_labels,
)
from equipoise.validators.runtime.interpreters import find_interpreter
from equipoise.validators.runtime.process import WorkerPool

SUBSTITUTE_TARGETS = {"flax": "stablehlo", "tensorflow": "saved-model"}
"""Backends of classes -> targets whose programs run on the same framework."""


def validate(request: Request, pool: WorkerPool | None = None) -> Report:
    """Runs the task of a model on every backend and returns the verdicts.

    Args:
        request: What to validate, and how.
        pool: Worker processes to use; None starts and ends processes here.

    Raises:
        InputError: The model, the task, a sample or an artifact cannot be used.
        WorkerError: PyTorch itself fails to run the model; failures of other backends are in the report.
    """
    with (
        tempfile.TemporaryDirectory(prefix="equipoise-") as scratch,
        name_user_paths(request.model, Path(scratch)),
    ):
        processes = [] if request.against_golden is not None else [REFERENCE_PROCESS]
        with nullcontext(pool) if pool is not None else WorkerPool() as workers:
            context = prepare_context(request, workers, Path(scratch), processes=processes)
            return run_validation(context)


def run_validation(context: EvaluationContext) -> Report:
    """Runs a prepared validation."""
    request = context.request
    if request.save_golden is not None:
        OutputFolder(request.save_golden, force=True, fingerprint="").check()
    artifacts = with_distinct_labels([resolve_artifact(path) for path in request.artifacts])
    with open_reference(context) as reference:
        measured = reference.measure(context.batches)
        auditor = open_auditor(context)
        results = [
            evaluate_backend(context, one, measured, reference, auditor, locate_divergence)
            for one in artifacts
        ]
        for source in _model_sources(context, artifacts):
            if isinstance(source, ModelSource):
                results.append(
                    evaluate_backend(
                        context, source, measured, reference, auditor, locate_divergence
                    )
                )
            else:
                results.append(source)
        report = build_report(context, reference, measured, results)
    if request.save_golden is not None:
        save_golden(request.save_golden, context, report.reference, measured)
    return report


@contextmanager
def open_reference(context: EvaluationContext) -> Iterator[ReferenceModels | Golden]:
    """Loads PyTorch as the reference, or opens the golden that the request names."""
    if context.request.against_golden is not None:
        yield load_golden(context, context.request.against_golden)
        return
    with ReferenceModels(context) as reference:
        yield reference


def _model_sources(
    context: EvaluationContext, artifacts: Sequence[ModelSource]
) -> Iterator[ModelSource | BackendResult]:
    """Yields the source of the model itself for each requested backend, or a result that says why there is none."""
    requested = context.request.backends
    for name in class_backends() if requested is None else requested:
        if name.endswith(".py"):
            yield ModelSource(name, context.pytorch.path)
        elif name not in backend_names():
            raise InputError(
                "no such backend",
                found=name,
                expected=", ".join(backend_names()),
                hint=did_you_mean(name, backend_names()),
            )
        elif not is_class_backend(name):
            if all(artifact.backend != name for artifact in artifacts):
                yield _temporary_program(context, name)
        elif requested is not None or name != "pytorch" or context.request.device != "cpu":
            # PyTorch on the CPU is the reference itself.
            yield _class_source(context, name)


def _class_source(context: EvaluationContext, name: str) -> ModelSource | BackendResult:
    """Returns the checkpoint in the layout of a backend of classes, or what takes its place."""
    try:
        find_interpreter(name, context.pool.interpreters)
        return resolve_model(context.model, name, context.scratch)
    except EquipoiseError as error:
        text = error.message.splitlines()[0]
        if context.request.backends is None:
            return BackendResult(name, name, absent=f"{text}: {error.hint}" if error.hint else text)
        return _substitute_program(context, name) or BackendResult(name, name, failure=text)


def _substitute_program(context: EvaluationContext, name: str) -> ModelSource | None:
    """Returns a program made from PyTorch's model, where the classes of a framework are not available.

    It shows that the framework computes the same; only the classes themselves prove the mapping of weights.
    """
    if name not in SUBSTITUTE_TARGETS:
        return None
    source = _temporary_program(context, SUBSTITUTE_TARGETS[name])
    if isinstance(source, BackendResult):
        return None
    return replace(source, label=f"{name}: a {source.backend} made from PyTorch")


def _temporary_program(context: EvaluationContext, name: str) -> ModelSource | BackendResult:
    """Exports the model for a backend of programs, or returns a result that says why not."""
    if name not in target_names():
        return BackendResult(name, name, failure="no artifact was given for it")
    context.request.progress(f"{name}: exporting")
    try:
        return export_temporarily(context, name)
    except EquipoiseError as error:
        return BackendResult(name, name, failure=str(error).splitlines()[0])
