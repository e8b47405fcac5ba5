"""Evaluates one backend: loads it, runs every case, judges the outputs, and locates a divergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.core.errors import EquipoiseError, WorkerError
from equipoise.convert.core.tensor import TensorRef
from equipoise.exporters.sentence.modules import (
    ATTRIBUTE,
    read_sentence_modules,
    split_class_name,
)
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.core.types import Arrays
from equipoise.validators.evaluation.companions import compare_companions
from equipoise.validators.evaluation.compare_case import compare_case
from equipoise.validators.evaluation.context import EvaluationContext, ReferenceOutputs
from equipoise.validators.evaluation.golden import Golden
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.evaluation.runnable_cases import choose_runnable
from equipoise.validators.judgement.precision import precision_note
from equipoise.validators.judgement.results import BackendResult, CaseMetrics
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.quantization import quantization_of
from equipoise.validators.models.sources import (
    FRAMEWORK_CLASSES,
    ModelSource,
    is_class_backend,
    rename_scratch,
)
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner

Locator: TypeAlias = Callable[
    [
        EvaluationContext,
        ModelSource,
        BackendResult,
        RemoteRunner,
        Sequence[ReferenceOutputs],
        ReferenceModels,
    ],
    BackendResult,
]
"""Adds to the result of a loaded backend where its values are first beyond noise."""


def evaluate_backend(
    context: EvaluationContext,
    source: ModelSource,
    measured: Sequence[ReferenceOutputs],
    reference: ReferenceModels | Golden,
    auditor: Auditor,
    locate: Locator,
) -> BackendResult:
    """Returns the result of one backend; a failure of the backend becomes part of the result.

    Args:
        context: The model, its task and the worker processes.
        source: What the backend loads.
        measured: Outputs of the reference for every case.
        reference: The reference itself, which is asked for module values where a divergence is located.
        auditor: Compares the weights with those of the source.
        locate: Looks inside a backend that is loaded: :func:`equipoise.validators.evaluation.locate.locate_divergence`.
    """
    result = _run_backend(context, source, measured, reference, locate)
    if result.absent or source.path == context.pytorch.path or source.backend.endswith(".py"):
        return result
    context.request.progress(f"{result.label}: weights")
    return replace(result, audit=auditor.audit(source.backend, source.path))


def open_auditor(context: EvaluationContext) -> Auditor:
    """Returns an auditor of programs made from the model of a context."""
    return Auditor(_source_tensors(context), context.request.precision)


def _source_tensors(context: EvaluationContext) -> Mapping[str, TensorRef]:
    """Returns the tensors that a program is made of: with sentence modules, theirs too, and no pooler before them."""
    checkpoint = open_checkpoint(context.pytorch.path)
    if not split_class_name(context.class_name)[1]:
        return checkpoint
    modules = read_sentence_modules(context.pytorch.path)
    tensors = {name: ref for name, ref in checkpoint.items() if "pooler" not in name.split(".")}
    for index, module in enumerate(modules):
        if module.weights is not None:
            own = open_container(module.weights).tensors
            tensors |= {f"{ATTRIBUTE}.{index}.{name}": ref for name, ref in own.items()}
    return tensors


def _run_backend(
    context: EvaluationContext,
    source: ModelSource,
    measured: Sequence[ReferenceOutputs],
    reference: ReferenceModels | Golden,
    locate: Locator,
) -> BackendResult:
    """Loads a backend, runs and judges every case, and locates a divergence."""
    label = _label_of(context, source)
    notes = source.code_notes(context.pool.limits)
    quantized = quantization_of(source.path)
    if quantized:
        notes = (*notes, f"quantized ({quantized}): held to the tolerance of int8")
    result = BackendResult(
        source.backend, label, source.origin, str(source.path), notes=notes, quantized=quantized
    )
    context.request.progress(f"{label}: loading")
    try:
        hello = context.pool.hello(source.backend)
        runner = _load_backend(context, source)
    except WorkerError as error:
        rename_scratch(error, context.model.path, context.scratch)
        if error.kind == "LookupError" and context.request.backends is None:
            return replace(result, absent=error.message.splitlines()[0].partition("Error: ")[2])
        return replace(result, failure=error.message)
    except EquipoiseError as error:
        rename_scratch(error, context.model.path, context.scratch)
        return replace(result, failure=error.message)
    result = replace(
        result,
        about=runner.model.about,
        versions=hello["versions"],
        notes=(
            *notes,
            *_ignored_inputs(context, runner, reference),
            *precision_note(runner.model.about.get("precision", ""), context.request.precision),
        ),
    )
    if problem := _missing_weights(runner):
        return replace(result, failure=problem)
    result = _run_cases(context, source, result, runner, measured)
    result = replace(result, companions=compare_companions(context, source, measured))
    context.request.progress(f"{label}: judged")
    if not result.failure and isinstance(reference, ReferenceModels):
        result = locate(context, source, result, runner, measured, reference)
    with suppress(WorkerError):  # the process has ended; its failure is in the result already
        runner.model.drop()
    return result


def _label_of(context: EvaluationContext, source: ModelSource) -> str:
    if source.label:
        return source.label
    if source.backend.endswith(".py"):
        return Path(source.backend).stem
    if source.origin != "as given" or source.path == context.model.path:
        return source.backend
    return f"{source.backend} ({source.path.name})"


def _load_backend(context: EvaluationContext, source: ModelSource) -> RemoteRunner:
    """Loads a source in its worker process; a checkpoint given as an artifact names its own class."""
    options = context.request.options(**source.options)
    class_name, _ = split_class_name(context.class_name)
    if source.backend == "pytorch":
        class_name = context.class_name
    if is_class_backend(source.backend) and (source.path / "config.json").is_file():
        class_name = ModelFolder(source.path).class_name or class_name
    worker = context.pool.get(source.backend)
    return RemoteRunner(RemoteModel(worker, source.backend, class_name, source.path, **options))


def _missing_weights(runner: RemoteRunner) -> str:
    """Returns a failure if the backend would run with random weights; empty if not."""
    missing = runner.model.info.get("missing_keys")
    if not missing:
        return ""
    return f"its loader found no values for {len(missing)} weights, which would be random: {missing[0]}"


def _ignored_inputs(
    context: EvaluationContext, runner: RemoteRunner, reference: ReferenceModels | Golden
) -> tuple[str, ...]:
    """Returns a note about inputs that PyTorch accepts and the backend does not."""
    used = {name for batch in context.batches for name in batch.arrays}
    ignored = sorted((used & reference.accepts) - runner.accepts)
    return (f"it does not take {', '.join(ignored)}",) if ignored else ()


def _run_cases(
    context: EvaluationContext,
    source: ModelSource,
    result: BackendResult,
    runner: RemoteRunner,
    measured: Sequence[ReferenceOutputs],
) -> BackendResult:
    """Runs every case; a failed one does not stop the others while the worker process lives."""
    cases: list[CaseMetrics] = []
    answers: tuple[object, ...] = ()
    runnable, notes = choose_runnable(measured, source.path, caches=runner.caches)
    if not runnable:
        return replace(
            result, failure=notes[0] if notes else "there are no cases", notes=result.notes
        )
    result = replace(result, notes=(*result.notes, *notes))
    left_out: list[str] = []
    for one in runnable:
        if cases and context.budget.is_spent():
            left_out.append(one.batch.case.name)
            continue
        context.request.progress(f"{result.label}: {one.batch.case.name}")
        before = len(runner.stats.seconds)
        try:
            outputs = context.task.run(runner, context.model, one.batch, follow=one.reference)
            metrics = _judge_outputs(context, result, one, outputs)
            answers = answers or tuple(context.task.decode(context.model, one.batch, outputs))
        except (EquipoiseError, KeyError, ValueError, IndexError, TypeError) as error:
            text = error.message if isinstance(error, EquipoiseError) else repr(error)
            metrics = CaseMetrics(one.batch.case.name, failure=text)
        seconds = tuple(runner.stats.seconds[before:])
        cases.append(replace(metrics, seconds=seconds))
        if metrics.failure and not runner.model.worker.alive:
            break
    failures = [f"{case.case}: {case.failure}" for case in cases if case.failure]
    return replace(
        result,
        cases=tuple(cases),
        answers=answers,
        notes=(*result.notes, *context.budget.describe(left_out)),
        failure=failures[0] if failures else "",
        seconds=sum(runner.stats.seconds),
        peak_bytes=runner.stats.peak_bytes,
    )


def _judge_outputs(
    context: EvaluationContext, result: BackendResult, one: ReferenceOutputs, outputs: Arrays
) -> CaseMetrics:
    """Judges the outputs of one case.

    Outputs of models within the model (``text_model_output.pooler_output``) may stay inside of a program. In the
    classes of other frameworks they differ between releases: transformers 5 returns the projected embedding as CLIP's
    ``pooler_output``. These classes may return less than PyTorch's, but not what the task reads.
    """
    read_by_task = frozenset(decision.output for decision in one.decisions)
    top_level = frozenset(name for name in one.reference if "." not in name)
    if result.backend in FRAMEWORK_CLASSES:
        outputs = {name: value for name, value in outputs.items() if "." not in name}
    if is_class_backend(result.backend):
        required = read_by_task or None
    else:
        required = top_level | read_by_task
    own = context.task.decisions(context.model, one.batch, outputs) if one.decisions else ()
    return compare_case(context.request, one, outputs, own, required, result.quantized)
