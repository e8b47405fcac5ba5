"""Which module is the first whose output is beyond noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.validators.alignment import Pair, align, comparable
from equipoise.validators.metrics import Distance, distance
from equipoise.validators.remote import Module, RemoteRunner
from equipoise.validators.result import Depth, Divergence
from equipoise.validators.runner import Array, Arrays
from equipoise.validators.tolerance import MODULE
from equipoise.validators.verdict import within_noise


@dataclass(frozen=True)
class Passes:
    """The same probe on the truth, the reference and a backend, with every module's values."""

    truth: Sequence[Module]
    reference: Sequence[Module]
    found: Sequence[Module]


@dataclass(frozen=True)
class Point:
    """One aligned module's figures."""

    pair: Pair
    error: Distance
    noise: Distance
    beyond: bool


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
        both = comparable(truth[pair.reference.path].outputs, pair.found.outputs)
        own = comparable(truth[pair.reference.path].outputs, pair.reference.outputs)
        if both is None or own is None:
            continue
        error = distance(_kept(both[1], mask), _kept(both[0], mask), precision=precision)
        noise = distance(_kept(own[1], mask), _kept(own[0], mask), precision=precision)
        beyond = not within_noise(error, noise, precision, MODULE)
        found.append(Point(pair, error, noise, beyond))
    return found


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
    """The first module beyond noise; None when no module is."""
    for index, point in enumerate(found):
        if point.beyond:
            return _divergence(found, index, case)
    return None


def _divergence(found: Sequence[Point], index: int, case: str) -> Divergence:
    point = found[index]
    reference = point.pair.reference
    before = [one for one in found[:index] if _feeds(one.pair.reference, reference)]
    note = "" if before else _beside(found, index)
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
