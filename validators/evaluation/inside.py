"""A look inside a backend: the error along its depth, and where a divergence begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.convert.errors import EquipoiseError
from equipoise.validators.core.types import Array
from equipoise.validators.evaluation.context import Setup
from equipoise.validators.evaluation.reference import Measured, Reference
from equipoise.validators.judgement import diagnosis, repro
from equipoise.validators.judgement.module_matching import weight_names
from equipoise.validators.judgement.results import BackendResult
from equipoise.validators.judgement.verdict import FINE
from equipoise.validators.models.sources import Form
from equipoise.validators.runtime.remote import RemoteRunner
from equipoise.validators.tasks.base import Batch


def look_inside(
    setup: Setup,
    form: Form,
    result: BackendResult,
    runner: RemoteRunner,
    measured: Sequence[Measured],
    reference: Reference,
) -> BackendResult:
    """Adds depth and divergence to a result, where asked for; a backend that shows nothing says so."""
    by_name = {one.batch.case.name: one for one in measured}
    beyond = [by_name[case.case] for case in result.cases if case.verdict not in FINE]
    find = setup.request.divergence and bool(beyond)
    if not find and not setup.request.depth:
        return result
    one = beyond[0] if find else measured[0]
    setup.request.progress(f"{result.label}: looking inside")
    try:
        own = reference.inside(one)
        found_inside = diagnosis.capture(runner, own.probes, one.batch.kwargs)
        passes = diagnosis.Passes(own.truth, own.reference, found_inside)
        points = diagnosis.points(
            passes,
            reference.weights,
            _weight_names(setup, form, reference),
            mask=_mask(one.batch),
            precision=setup.request.rounding,
        )
    except EquipoiseError as error:
        text = f"its modules cannot be seen: {error.message.splitlines()[0]}"
        return replace(result, notes=(*result.notes, text))
    if not points:
        text = (
            "its modules cannot be matched with PyTorch's: no weights or names tell which is which"
        )
        return replace(result, notes=(*result.notes, text))
    result = replace(result, depth=diagnosis.depth(points))
    if not find:
        return result
    found = diagnosis.first(points, one.batch.case.name)
    if found is None:
        text = f"no module is beyond noise in the case {one.batch.case.name}: the outputs alone are"
        return replace(result, notes=(*result.notes, text))
    if setup.request.repro is not None:
        found = replace(found, repro=str(repro.write(setup, result, passes, found)))
    return replace(result, divergence=found)


def _weight_names(setup: Setup, form: Form, reference: Reference) -> dict[str, tuple[str, ...]]:
    """The model's weights that a framework's weight is made of."""
    if form.from_pt or form.backend not in ("tensorflow", "flax"):
        return {}
    return {
        name: tuple(reference.renamed.get(source, source) for source in sources)
        for name, sources in weight_names(setup.pytorch.path, form.backend).items()
    }


def _mask(batch: Batch) -> Array | None:
    mask = batch.arrays.get("attention_mask")
    return mask.astype(bool) if mask is not None and mask.ndim == 2 and not mask.all() else None
