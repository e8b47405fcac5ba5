"""Exports a model to an artifact: tries the strategies of a target until the program of one passes validation."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.hub import resolve_source
from equipoise.convert.core.errors import InputError
from equipoise.convert.files.identity import check_unchanged
from equipoise.convert.files.output_folder import OutputFolder, replace_folder
from equipoise.exporters.artifact import Artifact, write_manifest
from equipoise.exporters.target import has_fixed_sizes, target_reference
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.core.request import Request
from equipoise.validators.evaluation.context import (
    REFERENCE_PROCESS,
    EvaluationContext,
    ReferenceOutputs,
    prepare_context,
)
from equipoise.validators.evaluation.evaluate import evaluate_backend, open_auditor
from equipoise.validators.evaluation.locate import locate_divergence
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.evaluation.report_builder import build_report
from equipoise.validators.export.attempts import (
    ExportedProgramFile,
    ExportJob,
    all_attempts_failed,
    first_program,
)
from equipoise.validators.export.example_inputs import batch_of_sizes, example_inputs
from equipoise.validators.export.manifest import build_manifest
from equipoise.validators.export.targets import (
    check_dynamic,
    check_layout,
    check_target,
    resolve_target,
)
from equipoise.validators.export.text_program import (
    add_text_program,
    check_text_options,
    target_options,
)
from equipoise.validators.export.tokenizer_judgement import TokenizerJudgement, judge_tokenizer
from equipoise.validators.judgement.results import PASSING_VERDICTS, Report, Verdict
from equipoise.validators.models.sources import ModelSource, backend_names, name_user_paths
from equipoise.validators.runtime.process import WorkerPool


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        request: The model, its task, precision, device and tolerance, as for a validation.
        output: The folder to write.
        target: Name of the target, or a user's file that defines one.
        sizes: Axes (``batch``, ``sequence``) -> the only size that the program shall accept.
        dynamic: Axes that must be dynamic: a target or task that cannot have them so is refused.
        judged: Whether to validate the program.
        force: Whether to replace an existing folder.
        ways: Names of the strategies to try; None tries all, in the target's order.
        patch: A file with ``patch(model)``, called before the export; plants faults in tests.
        options: Options of the target: ``opset``, ``external``, ``max_shard_size``, ``merged``, ``optimize``, ``quantize``,
            ``with_tokenizer``.
    """

    request: Request
    output: Path
    target: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    dynamic: Sequence[str] = ()
    judged: bool = True
    force: bool = False
    ways: Sequence[str] | None = None
    patch: str = ""
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def accepted_verdicts(self) -> tuple[Verdict, ...]:
        """Verdicts that end the search; int8 weights are beyond noise by nature."""
        if self.options.get("quantize"):
            return (*PASSING_VERDICTS, Verdict.DECISION_SAFE)
        return PASSING_VERDICTS


@dataclass(frozen=True)
class ExportResult:
    """The outcome of an export.

    Attributes:
        artifact: The content of ``artifact.json``.
        report: The validation of the program that was kept; None if it was not validated.
    """

    artifact: Artifact
    report: Report | None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the program; None if it was not validated."""
        return self.report.verdict if self.report else None


def export_model(request: ExportRequest, pool: WorkerPool | None = None) -> ExportResult:
    """Exports a model to an artifact.

    Args:
        request: What to export.
        pool: Worker processes to use; None starts and ends processes here.

    Raises:
        InputError: The model, the task, an option or the output cannot be used; nothing is left behind.
        WorkerError: Every strategy failed.
    """
    target = resolve_target(request.target)
    with ExitStack() as stack:
        processes = pool or stack.enter_context(WorkerPool())
        check_text_options(target, request.options, request.sizes, processes.interpreters)
        check_target(target, request.options, processes.interpreters)
        check_dynamic(target, request.dynamic)
        check_layout(request.options, request.request.precision)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="equipoise-")))
        model = resolve_source(request.request.model)
        stack.enter_context(name_user_paths(model, scratch))
        if not model.is_dir():
            raise InputError("an export needs a model's folder", file=model)
        sources = (model, *sorted(model.iterdir()))
        OutputFolder(request.output, force=request.force, fingerprint="").check(sources)
        context = prepare_context(
            replace(request.request, model=model),
            processes,
            scratch,
            processes=("", REFERENCE_PROCESS) if request.judged else ("",),
        )
        judgement = (
            judge_tokenizer(context, target) if request.options.get("with_tokenizer") else None
        )
        identities = open_checkpoint(context.pytorch.path).identities
        with replace_folder(
            request.output, force=request.force, sources=sources, nbytes=context.model.weight_bytes
        ) as folder:
            inputs = example_inputs(
                context, request.sizes, fixed=has_fixed_sizes(target), dynamic=request.dynamic
            )
            job = ExportJob(
                target,
                target_reference(request.target),
                context,
                folder,
                inputs,
                patch=request.patch,
                options=target_options(target, request.options),
                ways=request.ways,
                dynamic=request.dynamic,
            )
            result = _export_into(folder, request, job, judgement)
            check_unchanged(identities)
            return result


def _export_into(
    folder: Path, request: ExportRequest, job: ExportJob, judgement: TokenizerJudgement | None
) -> ExportResult:
    """Writes program, companions and manifest into a folder."""
    if request.judged:
        program, report = _best_program(request, job)
    else:
        program, report = first_program(job), None
    for path in sorted(program.folder.iterdir()):
        path.rename(folder / path.name)
    for path in sorted(folder.glob("way-*")):
        shutil.rmtree(path)
    text_program = (
        add_text_program(
            job.context,
            job.target,
            folder,
            folder / program.path.relative_to(program.folder),
            judgement,
        )
        if judgement
        else {}
    )
    artifact = build_manifest(request.sizes, job, program, report, text_program)
    write_manifest(artifact, folder)
    return ExportResult(artifact, report)


def _best_program(
    request: ExportRequest, job: ExportJob
) -> tuple[ExportedProgramFile, Report | None]:
    """Returns the first program that passes validation, or else the one with the best verdict."""
    target, context = job.target, job.context
    if target.name not in backend_names():
        return first_program(job), None
    best: tuple[ExportedProgramFile, Report] | None = None
    if request.sizes or has_fixed_sizes(target):
        # A program of fixed sizes only accepts a case of those sizes.
        context = replace(context, batches=(batch_of_sizes(context, request.sizes),))
    context.pool.preload(target.name)
    with ReferenceModels(context) as reference:
        measured = reference.measure(context.batches)
        auditor = open_auditor(context)
        for program in job.programs():
            if not program.exists:
                continue
            report = _validate_program(context, program, measured, reference, auditor)
            job.record_verdict(report)
            if best is None or report.verdict.rank < best[1].verdict.rank:
                best = (program, report)
            if report.verdict in request.accepted_verdicts:
                break
    if best is None:
        raise all_attempts_failed(job)
    return replace(best[0], tried=tuple(job.attempts)), best[1]


def _validate_program(
    context: EvaluationContext,
    program: ExportedProgramFile,
    measured: Sequence[ReferenceOutputs],
    reference: ReferenceModels,
    auditor: Auditor,
) -> Report:
    results = [
        evaluate_backend(context, source, measured, reference, auditor, locate_divergence)
        for source in sources_to_judge(program)
    ]
    return build_report(context, reference, measured, results)


def sources_to_judge(program: ExportedProgramFile) -> list[ModelSource]:
    """Returns the sources that a program is judged as: ONNX with ONNX Runtime's graph optimizations and without."""
    source = ModelSource(program.target, program.path, program.way)
    if program.target != "onnx":
        return [source]
    return [source, replace(source, options={"optimize": False}, label="onnx, as written")]
