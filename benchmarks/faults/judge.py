"""Judges artifacts with the validator, and keeps the outputs of a default sample for the criteria of others."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.cli.validate import exit_code
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Arrays, Batch
from equipoise.validators.evaluation.context import (
    EvaluationContext,
    ReferenceOutputs,
    prepare_context,
)
from equipoise.validators.evaluation.evaluate import evaluate_backend, open_auditor
from equipoise.validators.evaluation.locate import locate_divergence
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.evaluation.report_builder import build_report
from equipoise.validators.judgement.results import BackendResult
from equipoise.validators.models.sources import resolve_artifact
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.validate import open_reference
from faults.peers import judge_as_peers


@dataclass(frozen=True)
class Judgement:
    """What the validator and the criteria of others say of one artifact.

    Attributes:
        code: The exit code of ``equipoise validate``.
        verdict: The verdict in words.
        module: The first module beyond noise, or the smallest that contains the place; empty if none is named.
        after: Where the place is a range: the last module within noise before it.
        before: The first module after it that is beyond noise.
        ratio: The largest ratio of error to noise over all cases and outputs.
        reasons: Why the verdict is what it is.
        weights: Names of weights, of the program or the source, that the audit finds wrong.
        notes: Remarks of the report.
        peers: Criterion -> whether it rejects the artifact.
        seconds: Duration.
    """

    code: int
    verdict: str
    module: str = ""
    after: str = ""
    before: str = ""
    ratio: float = 0.0
    reasons: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    peers: Mapping[str, bool] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return asdict(self)


class RecordingTask:
    """A task that keeps the first outputs of every case: those of the artifact, before the reference runs it to look inside."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.outputs: dict[str, Arrays] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def run(self, runner: Any, model: Any, batch: Batch, **options: Any) -> Arrays:
        """Runs a case and keeps the outputs."""
        outputs: Arrays = self.task.run(runner, model, batch, **options)
        self.outputs.setdefault(batch.case.name, outputs)
        return outputs


class Judge:
    """One model with its reference, before which one artifact after the other is judged.

    It does what ``run_validation`` does with several artifacts, one at a time: a fault that breaks its process or
    takes long costs that fault alone, and results can be kept as they come.
    """

    def __init__(
        self,
        context: EvaluationContext,
        reference: ReferenceModels,
        measured: Sequence[ReferenceOutputs],
        auditor: Auditor,
    ) -> None:
        self.context, self.reference = context, reference
        self.measured, self.auditor = measured, auditor

    def rename_module(self, module: str, weight: str) -> str:
        """Returns the module of a weight under the name that it has in PyTorch's model, which is not always that of the file."""
        renamed = self.reference.renamed.get(weight) if weight else None
        return renamed.rpartition(".")[0] if renamed else module

    def judge(self, artifact: Path) -> Judgement:
        """Returns what is said of an artifact."""
        source = resolve_artifact(artifact)
        task: Any = self.context.task
        task.outputs.clear()
        result = evaluate_backend(
            self.context,
            source,
            self.measured,
            self.reference,
            self.auditor,
            locate_divergence,
        )
        report = build_report(self.context, self.reference, self.measured, [result])
        first = next(
            (one for one in self.measured if one.batch.case.name in task.outputs), self.measured[0]
        )
        return Judgement(
            code=exit_code(report, strict=True),
            verdict=report.verdict.value,
            module=result.divergence.module if result.divergence else "",
            after=result.divergence.after if result.divergence else "",
            before=result.divergence.before if result.divergence else "",
            ratio=max_ratio(result),
            reasons=tuple(list_reasons(result)),
            weights=tuple(list_weights(result)),
            notes=result.notes,
            peers=judge_as_peers(first.reference, task.outputs.get(first.batch.case.name)),
            seconds=result.seconds,
        )


@contextmanager
def open_judge(model: Path, pool: WorkerPool) -> Iterator[Judge]:
    """Runs a model's reference on all cases of its task, and makes it ready to judge artifacts."""
    request = Request(model, backends=())
    with tempfile.TemporaryDirectory(prefix="equipoise-") as scratch:
        context = prepare_context(request, pool, Path(scratch))
        task: Any = RecordingTask(context.task)
        context = replace(context, task=task)
        with open_reference(context) as reference:
            if not isinstance(reference, ReferenceModels):
                raise TypeError("a fault is judged against PyTorch, not against a golden")
            measured = reference.measure(context.batches)
            yield Judge(context, reference, measured, open_auditor(context))


def max_ratio(result: BackendResult) -> float:
    """Returns the largest ratio of error to noise."""
    ratios = [one.ratio or 0.0 for case in result.cases for one in case.outputs]
    return float(np.max(ratios)) if ratios else 0.0


def list_reasons(result: BackendResult) -> Iterator[str]:
    """Yields what speaks against an artifact, the weights first."""
    if result.audit is not None:
        yield from result.audit.findings
    yield from result.companions
    if result.failure:
        yield result.failure.splitlines()[0]
    for case in result.cases:
        for output in case.outputs:
            if output.reason:
                yield f"{case.case}: {output.name}: {output.reason}"


def list_weights(result: BackendResult) -> Iterator[str]:
    """Yields names of weights that the audit finds wrong: in the program, and in the source."""
    if result.audit is None:
        return
    for one in result.audit.not_accounted:
        yield from filter(None, (one.name, one.nearest))
    for broken in result.audit.non_finite:
        yield broken.name
