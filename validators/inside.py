"""A look inside a backend: the error along its depth, and where a divergence begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators import divergence, repro
from equipoise.validators.alignment import weight_names
from equipoise.validators.forms import Form
from equipoise.validators.reference import Measured, Reference
from equipoise.validators.remote import RemoteRunner
from equipoise.validators.result import BackendResult
from equipoise.validators.runner import Array
from equipoise.validators.setup import Setup
from equipoise.validators.tasks.base import Batch
from equipoise.validators.verdict import FINE


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
        found_inside = divergence.capture(runner, own.probes, one.batch.kwargs)
        passes = divergence.Passes(own.truth, own.reference, found_inside)
        points = divergence.points(
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
    result = replace(result, depth=divergence.depth(points))
    if not find:
        return result
    found = divergence.first(points, one.batch.case.name)
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
