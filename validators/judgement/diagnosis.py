"""Which module is the first whose output is beyond noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.validators.core.tolerance import MODULE
from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.judgement.metrics import Distance, distance
from equipoise.validators.judgement.module_matching import Pair, align, comparable
from equipoise.validators.judgement.results import Depth, Divergence
from equipoise.validators.judgement.verdict import within_noise
from equipoise.validators.runtime.remote import Module, RemoteRunner


@dataclass(frozen=True)
class Passes:
    """The same probe on the truth, the reference and a backend, with every module's values."""

    truth: Sequence[Module]
    reference: Sequence[Module]
    found: Sequence[Module]


@dataclass(frozen=True)
class Point:
    """One aligned module's figures.

    Attributes:
        pair: The module on both sides.
        error: Distance of its output from the truth.
        noise: The same of the reference.
        beyond: Whether the output is beyond noise.
        fed_beyond: Whether its first input is; False where inputs are not known.
    """

    pair: Pair
    error: Distance
    noise: Distance
    beyond: bool
    fed_beyond: bool


def capture(
    runner: RemoteRunner, probes: Sequence[Arrays], kwargs: Mapping[str, Any]
) -> list[Module]:
    """Every module's values in the last pass of a probe.

    Args:
        runner: The model.
        probes: One pass, or several that go on from one another's cache.
        kwargs: Plain values for the model's forward.
    """
    *before, last = [
        {name: value for name, value in probe.items() if name in runner.accepts} for probe in probes
    ]
    state: str | None = None
    for probe in before:
        _, state = runner.step(probe, state, **kwargs)
    _, modules = runner.capture(last, state=state, **kwargs)
    return modules


def points(
    passes: Passes,
    weights: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
    *,
    mask: Array | None,
    precision: str,
) -> list[Point]:
    """Error and noise of every module that both sides have, in the order in which they ended.

    Args:
        passes: The captured values.
        weights: PyTorch's weights by name.
        names: Which of them a backend's weight is made of.
        mask: Which positions of a padded batch mean something.
        precision: The precision under test.
    """
    truth = {module.path: module for module in passes.truth}
    reference = [module for module in passes.reference if module.path in truth]
    found = []
    for pair in align(reference, passes.found, weights, names):
        exact = truth[pair.reference.path]
        out = _figures(exact.outputs, pair.reference.outputs, pair.found.outputs, mask, precision)
        if out is None:
            continue
        if out[2] and _goes_further(pair, passes, truth, mask, precision):
            continue
        fed = _figures(exact.inputs, pair.reference.inputs, pair.found.inputs, mask, precision)
        found.append(Point(pair, out[0], out[1], out[2], fed is not None and fed[2]))
    return found


def _goes_further(
    pair: Pair, passes: Passes, truth: Mapping[str, Module], mask: Array | None, precision: str
) -> bool:
    """Whether the backend's module ends where one around PyTorch's does: a dense layer with its activation."""
    parent = pair.reference.path.rpartition(".")[0]
    for module in passes.reference:
        if module.path and module.path == parent:
            exact = truth[module.path].outputs
            out = _figures(exact, module.outputs, pair.found.outputs, mask, precision)
            return out is not None and not out[2]
    return False


def _figures(
    truth: Arrays, reference: Arrays, found: Arrays, mask: Array | None, precision: str
) -> tuple[Distance, Distance, bool] | None:
    """Error, noise, and whether the error is beyond it; None where there is nothing to compare."""
    both, own = comparable(truth, found), comparable(truth, reference)
    if both is None or own is None:
        return None
    error = distance(_kept(both[1], mask), _kept(both[0], mask), precision=precision)
    noise = distance(_kept(own[1], mask), _kept(own[0], mask), precision=precision)
    return error, noise, not within_noise(error, noise, precision, MODULE)


def _kept(values: Array, mask: Array | None) -> Array:
    if mask is None or values.shape[: mask.ndim] != mask.shape:
        return values
    return np.asarray(values[mask])


def depth(found: Sequence[Point]) -> tuple[Depth, ...]:
    """Errors along the depth of the model."""
    return tuple(
        Depth(point.pair.reference.path, point.error.relative, point.noise.relative)
        for point in found
    )


def first(found: Sequence[Point], case: str) -> Divergence | None:
    """The first module beyond noise; None when no module is.

    A module whose inputs are beyond noise is not to blame though every module before it is fine: something
    between them is, which belongs to the module around it.
    """
    for index, point in enumerate(found):
        if point.beyond:
            return _divergence(found, index, case)
    return None


def _divergence(found: Sequence[Point], index: int, case: str) -> Divergence:
    flagged = found[index]
    by_path = {point.pair.reference.path: point for point in found}
    point, inner = flagged, ""
    while point.fed_beyond and (path := point.pair.reference.path.rpartition(".")[0]) in by_path:
        point, inner = by_path[path], flagged.pair.reference.path
    reference = point.pair.reference
    before = [one for one in found[:index] if _feeds(one.pair.reference, reference)]
    note = "" if before else _beside(found, index)
    if inner:
        note = f"what goes into its part {inner} is beyond noise already, no part before it is"
    return Divergence(
        case=case,
        module=reference.path or "(the whole model)",
        kind=reference.kind,
        there=point.pair.found.path,
        error=point.error.relative,
        noise=point.noise.relative,
        inputs={one.pair.reference.path: one.error.relative for one in before},
        note=note,
    )


def _beside(found: Sequence[Point], index: int) -> str:
    if index == 0:
        return "no module before it could be compared"
    return f"the last module within noise before it is {found[index - 1].pair.reference.path}"


def _feeds(giver: Module, taker: Module) -> bool:
    """Whether one module's output is an input of the other: the same values."""
    return any(
        given.shape == taken.shape and given.size > 1 and np.array_equal(given, taken)
        for given in giver.outputs.values()
        for taken in taker.inputs.values()
    )
