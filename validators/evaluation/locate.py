"""Looks inside a backend: the error of every module, and the place of the first values beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.core.types import CapturedPasses, ForwardPass
from equipoise.validators.evaluation.context import EvaluationContext, ReferenceOutputs
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.judgement.diagnosis import (
    ArrayComparer,
    choose_pass,
    compare_modules,
    error_by_depth,
)
from equipoise.validators.judgement.location import first_divergence
from equipoise.validators.judgement.module_matching import map_weight_names
from equipoise.validators.judgement.repro import write_repro
from equipoise.validators.judgement.results import PASSING_VERDICTS, BackendResult, Divergence
from equipoise.validators.models.sources import ModelSource
from equipoise.validators.runtime.remote import RemoteRunner, capture_last, replay

FRAMEWORK_CLASSES = ("tensorflow", "flax")
"""Backends that run the classes of another framework, with names of their own for modules and weights."""

NOT_MATCHED = (
    "its modules cannot be matched with PyTorch's: no weights or names tell which is which"
)
CACHE_NOT_COMPARED = "the KV cache from which the step continues is not compared"
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
        index = _choose_pass(context, runner, one, reference)
        passes = _capture(runner, one, reference, index)
        comparer = _comparers(context, reference.record(one).forward)[index]
        names = _matched_weight_names(context, source, reference)
        comparisons = compare_modules(passes, reference.weights, names, comparer)
    except EquipoiseError as error:
        text = f"its modules cannot be seen: {error.message.splitlines()[0]}"
        return replace(result, notes=(*result.notes, text))
    if not comparisons:
        return replace(result, notes=(*result.notes, NOT_MATCHED))
    result = replace(result, depth=error_by_depth(comparisons))
    is_loop = len(reference.record(one).forward) > 1
    divergence = first_divergence(
        comparisons,
        passes,
        comparer,
        case=one.batch.case.name,
        step=index + 1 if is_loop else 0,
    )
    if divergence is None:
        return replace(result, notes=(*result.notes, HIDDEN_BY_RECORDING)) if is_beyond else result
    if index and reference.record(one).forward[index].cached:
        note = "; ".join(text for text in (divergence.note, CACHE_NOT_COMPARED) if text)
        divergence = replace(divergence, note=note)
    return replace(result, divergence=_add_repro(context, result, passes, divergence))


def _choose_pass(
    context: EvaluationContext,
    runner: RemoteRunner,
    one: ReferenceOutputs,
    reference: ReferenceModels,
) -> int:
    """Returns the position of the pass to look into: in a loop the first that is beyond noise for the same inputs."""
    recorded = reference.record(one)
    if len(recorded.forward) == 1:
        return 0
    found, _ = replay(runner, recorded.forward, one.batch.kwargs)
    comparers = _comparers(context, recorded.forward)
    return choose_pass(recorded.truth, recorded.reference, found, comparers)


def _capture(
    runner: RemoteRunner, one: ReferenceOutputs, reference: ReferenceModels, index: int
) -> CapturedPasses:
    """Captures one pass on all sides."""
    truth, ours = reference.capture(one, index)
    forward = reference.record(one).forward[: index + 1]
    return CapturedPasses(truth, ours, capture_last(runner, forward, one.batch.kwargs))


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
        class_name=context.class_name,
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
