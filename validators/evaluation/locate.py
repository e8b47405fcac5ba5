"""Looks inside a backend: the error of every module, and the place of the first values beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from equipoise.convert.core.errors import EquipoiseError
from equipoise.exporters.sentence.modules import split_class_name
from equipoise.validators.core.types import Arrays, CapturedPass, CapturedPasses, ForwardPass
from equipoise.validators.evaluation.context import EvaluationContext, ReferenceOutputs
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.judgement.diagnosis import (
    ArrayComparer,
    ModuleComparison,
    choose_pass,
    compare_modules,
    compare_outputs,
    error_by_depth,
)
from equipoise.validators.judgement.location import first_divergence
from equipoise.validators.judgement.module_matching import map_weight_names
from equipoise.validators.judgement.precision import LowerPrecision, find_precision
from equipoise.validators.judgement.repro import write_repro
from equipoise.validators.judgement.results import (
    PASSING_VERDICTS,
    BackendResult,
    ComputedPrecision,
    Divergence,
)
from equipoise.validators.models.sources import FRAMEWORK_CLASSES, ModelSource
from equipoise.validators.runtime.remote import RemoteRunner, capture_last, replay

NOT_MATCHED = (
    "its modules cannot be matched with PyTorch's: no weights or names tell which is which"
)
CACHE_NOT_COMPARED = "the KV cache from which the step continues is not compared"
NO_PASS_BEYOND = "where it goes wrong is not known: for the inputs that PyTorch got every forward pass is within noise"
HIDDEN_BY_RECORDING = (
    "where it goes wrong is not known: while its modules are recorded its outputs are within noise, so what is wrong "
    "needs what recording prevents, such as fused operations or compiled code"
)


def locate_divergence(
    context: EvaluationContext,
    source: ModelSource,
    result: BackendResult,
    runner: RemoteRunner,
    measured: Sequence[ReferenceOutputs],
    reference: ReferenceModels,
) -> BackendResult:
    """Adds the error by depth and the place of the first values beyond noise to a result, where requested.

    A backend whose modules cannot be captured or matched gets a note that says so.
    """
    request = context.request
    by_name = {one.batch.case.name: one for one in measured}
    beyond = [by_name[case.case] for case in result.cases if case.verdict not in PASSING_VERDICTS]
    is_beyond = request.divergence and bool(beyond)
    if not is_beyond and not request.depth:
        return result
    one = beyond[0] if is_beyond else measured[0]
    request.progress(f"{result.label}: looking inside")
    try:
        recorded = reference.record(one)
        outputs, _ = replay(runner, recorded.forward, one.batch.kwargs)
        comparers = _comparers(context, recorded.forward)
        index = choose_pass(recorded.truth, recorded.reference, outputs, comparers)
        look = _Look(context, one, reference, index, comparers[index])
        result, passes, comparisons = _compare_inside(
            look, source, result, runner, CapturedPass(outputs[index], ())
        )
        if is_beyond:
            result = replace(
                result, computed=_computed_precision(look, result, passes, comparisons)
            )
    except EquipoiseError as error:
        text = f"its modules cannot be seen: {error.message.splitlines()[0]}"
        return replace(result, notes=(*result.notes, text))
    if not comparisons:
        return result
    divergence = _place_of_divergence(look, passes, comparisons)
    if divergence is None:
        note = _note_without_place(look, outputs[index]) if is_beyond else ""
        return replace(result, notes=(*result.notes, note)) if note else result
    return replace(result, divergence=_add_repro(context, result, passes, divergence))


@dataclass(frozen=True)
class _Look:
    """One forward pass of one case, into which a look is taken."""

    context: EvaluationContext
    case: ReferenceOutputs
    reference: ReferenceModels
    index: int
    comparer: ArrayComparer

    @property
    def forward(self) -> tuple[ForwardPass, ...]:
        """All passes of the case."""
        return self.reference.record(self.case).forward


def _note_without_place(look: _Look, outputs: Arrays) -> str:
    """Returns why there is no place, although the verdict is not a passing one: the pass itself is beyond noise or not."""
    recorded = look.reference.record(look.case)
    sides = (recorded.truth[look.index], recorded.reference[look.index], outputs)
    compared = compare_outputs(*sides, look.comparer)
    return HIDDEN_BY_RECORDING if any(one.beyond for one in compared.values()) else NO_PASS_BEYOND


def _compare_inside(
    look: _Look,
    source: ModelSource,
    result: BackendResult,
    runner: RemoteRunner,
    outputs: CapturedPass,
) -> tuple[BackendResult, CapturedPasses, list[ModuleComparison]]:
    """Captures and compares all modules; a backend that cannot do this gets a note, and keeps its outputs alone."""
    truth, ours = look.reference.capture(look.case, look.index)
    passes = CapturedPasses(truth, ours, outputs)
    try:
        forward = look.forward[: look.index + 1]
        passes = replace(passes, found=capture_last(runner, forward, look.case.batch.kwargs))
    except EquipoiseError as error:
        text = f"its modules cannot be seen: {error.message.splitlines()[0]}"
        return replace(result, notes=(*result.notes, text)), passes, []
    names = _matched_weight_names(look.context, source, look.reference)
    comparisons = compare_modules(passes, look.reference.weights, names, look.comparer)
    if not comparisons:
        return replace(result, notes=(*result.notes, NOT_MATCHED)), passes, []
    return replace(result, depth=error_by_depth(comparisons)), passes, comparisons


def _computed_precision(
    look: _Look,
    result: BackendResult,
    passes: CapturedPasses,
    comparisons: Sequence[ModuleComparison],
) -> ComputedPrecision | None:
    """Returns the lower precision whose error a float32 program has; None if its error is another one."""
    declared = str(result.about.get("precision", ""))
    if declared != "float32" or look.comparer.precision != "float32" or result.quantized:
        return None

    def capture(lower: LowerPrecision) -> CapturedPass:
        look.context.request.progress(f"{result.label}: PyTorch in {lower.name}")
        return look.reference.capture_with(look.case, look.index, lower.options)

    return find_precision(declared, passes, comparisons, look.comparer, capture)


def _place_of_divergence(
    look: _Look, passes: CapturedPasses, comparisons: Sequence[ModuleComparison]
) -> Divergence | None:
    step = look.index + 1 if len(look.forward) > 1 else 0
    divergence = first_divergence(
        comparisons, passes, look.comparer, case=look.case.batch.case.name, step=step
    )
    if divergence is None or not (look.index and look.forward[look.index].cached):
        return divergence
    note = "; ".join(text for text in (divergence.note, CACHE_NOT_COMPARED) if text)
    return replace(divergence, note=note)


def _comparers(context: EvaluationContext, passes: Sequence[ForwardPass]) -> list[ArrayComparer]:
    """Returns what compares the arrays of each pass without its padding."""
    comparers = []
    for one in passes:
        mask = one.inputs.get("attention_mask")
        has_padding = mask is not None and mask.ndim == 2 and not mask.all()
        comparers.append(
            ArrayComparer(
                mask.astype(bool) if mask is not None and has_padding else None,
                context.request.rounding,
            )
        )
    return comparers


def _add_repro(
    context: EvaluationContext,
    result: BackendResult,
    passes: CapturedPasses,
    divergence: Divergence,
) -> Divergence:
    """Writes a script that shows the divergence, if one was requested."""
    if context.request.repro is None:
        return divergence
    folder = write_repro(
        context.request.repro,
        result.label,
        passes,
        divergence,
        checkpoint=context.pytorch.path,
        class_name=split_class_name(context.class_name)[0],
        config=context.model.config,
    )
    return replace(divergence, repro=str(folder))


def _matched_weight_names(
    context: EvaluationContext, source: ModelSource, reference: ReferenceModels
) -> dict[str, tuple[str, ...]]:
    """Returns the names of a framework's weights -> the names of the PyTorch weights that they are made of."""
    if source.from_pt or source.backend not in FRAMEWORK_CLASSES:
        return {}
    return {
        name: tuple(reference.renamed.get(one, one) for one in sources)
        for name, sources in map_weight_names(context.pytorch.path, source.backend).items()
    }
