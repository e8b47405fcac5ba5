"""Finds where the first values beyond noise are computed: in a module, between two modules, or after the last one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from equipoise.validators.core.types import Array, CapturedModule, CapturedPasses
from equipoise.validators.judgement.diagnosis import (
    ArrayComparer,
    ModuleComparison,
    compare_outputs,
)
from equipoise.validators.judgement.results import WHOLE_MODEL, Divergence

_MAX_NAMES = 3
"""Modules that a note names; of the others it gives the number."""


@dataclass(frozen=True)
class _Range:
    """Where the first values beyond noise are computed; paths are PyTorch's, None stands for no module.

    Attributes:
        module: The smallest module that contains the place.
        after: The last module within noise before it, where the place is a range.
        before: The first module after it that is known to be beyond noise.
        notes: What else is known.
    """

    module: str
    after: str | None = None
    before: str | None = None
    notes: list[str] = field(default_factory=list)


def first_divergence(
    comparisons: Sequence[ModuleComparison],
    passes: CapturedPasses,
    comparer: ArrayComparer,
    *,
    case: str,
    step: int = 0,
) -> Divergence | None:
    """Returns the place of the first values beyond noise; None if modules and outputs are within noise.

    A module is at fault if its output is beyond noise and its inputs are not. If its inputs are, something between it
    and the last module within noise is, which belongs to the module around both. The same holds if inputs are not
    known, but then the module itself may be at fault too. For example, with a clip between ``h.0.ln_1`` and
    ``h.0.attn`` the place is in ``h.0``, after ``h.0.ln_1``, before ``h.0.attn``.

    Args:
        comparisons: Modules in the order in which they ended.
        passes: The captured values.
        comparer: Compares outputs of the model.
        case: Name of the case.
        step: Number of the pass in a loop.
    """
    index = next((index for index, one in enumerate(comparisons) if one.beyond), None)
    if index is None:
        return _after_the_last(comparisons, passes, comparer, case, step)
    flagged = comparisons[index]
    place = _find_place(comparisons, index, passes)
    by_path = {one.path: one for one in comparisons}
    called = {module.path: module for module in passes.reference.modules}
    owner = by_path.get(place.module)
    inputs = owner.inputs.within if owner is not None else {}
    return Divergence(
        case=case,
        module=place.module or WHOLE_MODEL,
        kind=called[place.module].kind if place.module in called else "",
        there=owner.pair.found.path if owner is not None else "",
        error=flagged.error.relative,
        noise=flagged.noise.relative,
        inputs=dict(_name_inputs(place.module, inputs, passes)),
        note="; ".join(place.notes),
        after=place.after or "",
        before="" if place.before is None else place.before or WHOLE_MODEL,
        step=step,
    )


def _find_place(
    comparisons: Sequence[ModuleComparison], index: int, passes: CapturedPasses
) -> _Range:
    flagged = comparisons[index]
    if flagged.inputs.beyond:
        return _range_before_input(comparisons, index, passes)
    notes = _describe_inputs(flagged)
    inner = [one.path for one in comparisons[:index] if _is_below(one.path, flagged.path)]
    if inner:
        return _Range(flagged.path, inner[-1], None, notes)
    if flagged.inputs.good:
        return _Range(flagged.path, notes=notes)
    after = comparisons[index - 1].path if index else None
    if after is None:
        return _Range(flagged.path, notes=[*notes, "no module before it could be compared"])
    notes += _describe_gap(comparisons, after, flagged.path, passes)
    return _Range(flagged.path, after, flagged.path, notes)


def _describe_inputs(flagged: ModuleComparison) -> list[str]:
    """Returns a note on inputs that are not known."""
    unknown = flagged.inputs.unknown
    if unknown:
        return [f"not compared: what goes into it as {_list_names(unknown)}"]
    if not flagged.inputs.within:
        return ["its inputs are not floating-point numbers and are not compared"]
    return []


def _range_before_input(
    comparisons: Sequence[ModuleComparison], index: int, passes: CapturedPasses
) -> _Range:
    """Returns the range that ends with the input of a module: in the smallest module around it whose inputs are fine."""
    by_path = {one.path: one for one in comparisons}
    before, owner = comparisons[index], None
    for path in _ancestors(before.path):
        if path not in by_path:
            continue
        if not by_path[path].inputs.beyond:
            owner = by_path[path]
            break
        before = by_path[path]
    after = _last_within(comparisons[:index], before.pair.reference)
    notes = [f"what goes into {before.path or WHOLE_MODEL} is beyond noise already"]
    if after is None:
        around = owner.path if owner is not None and owner.inputs.good else before.path
        notes.append("no module before it could be compared")
        return _Range(around, None, before.path, notes)
    notes += _describe_gap(comparisons, after, before.path, passes)
    called = {module.path for module in passes.reference.modules}
    around = next(
        path
        for path in (*_ancestors(before.path), "")
        if (path in called or not path)
        and (
            _is_below(after, path)
            or (owner is not None and owner.path == path and owner.inputs.good)
        )
    )
    return _Range(around, after, before.path, notes)


def _last_within(comparisons: Sequence[ModuleComparison], taker: CapturedModule) -> str | None:
    """Returns the module within noise that computes an input of another; else the last module before it."""
    givers = [one for one in comparisons if _is_input_of(one.pair.reference, taker)]
    return next((one.path for one in reversed(givers or comparisons)), None)


def _describe_gap(
    comparisons: Sequence[ModuleComparison], after: str, before: str, passes: CapturedPasses
) -> list[str]:
    """Returns a note on the modules between two others that could not be compared."""
    compared = {one.path for one in comparisons}
    order = [module.path for module in passes.reference.modules]
    start, end = order.index(after) + 1, order.index(before)
    missing = [
        module.path
        for module in passes.reference.modules[start:end]
        if module.path not in compared and module.outputs and not _returns_its_input(module)
    ]
    return [f"not compared between them: {_list_names(missing)}"] if missing else []


def _after_the_last(
    comparisons: Sequence[ModuleComparison],
    passes: CapturedPasses,
    comparer: ArrayComparer,
    case: str,
    step: int,
) -> Divergence | None:
    """Returns the range behind the last module, if an output of the model is beyond noise although no module is."""
    sides = (passes.truth.outputs, passes.reference.outputs, passes.found.outputs)
    outputs = compare_outputs(*sides, comparer)
    name, worst = next(((name, one) for name, one in outputs.items() if one.beyond), ("", None))
    if worst is None:
        return None
    last = next((one.path for one in reversed(comparisons) if one.path), "")
    root = [module for module in passes.reference.modules if not module.path]
    return Divergence(
        case=case,
        module=WHOLE_MODEL,
        kind=root[-1].kind if root else "",
        there="",
        error=worst.error.relative,
        noise=worst.noise.relative,
        note=f"no module is beyond noise, but the output {name} is",
        after=last,
        step=step,
    )


def _ancestors(path: str) -> Iterator[str]:
    """Yields the paths of the modules around one, innermost first; the whole model is the last.

    >>> list(_ancestors("h.0.attn"))
    ['h.0', 'h', '']
    """
    while path:
        path = path.rpartition(".")[0]
        yield path


def _is_below(path: str, module: str) -> bool:
    return not module or path.startswith(f"{module}.")


def _name_inputs(
    module: str, inputs: Mapping[str, float], passes: CapturedPasses
) -> Iterator[tuple[str, float]]:
    """Yields the relative errors of a module's inputs, by the modules that computed them where these are known."""
    ours = {one.path: one for one in passes.reference.modules}.get(module)
    if ours is None:
        return
    for name, error in inputs.items():
        value = ours.inputs[name]
        givers = [
            one.path
            for one in passes.reference.modules
            if one.path != module and _is_output(one, value)
        ]
        yield (givers[-1] if givers else f"its input {name}"), error


def _is_output(giver: CapturedModule, value: Array) -> bool:
    return any(
        output.shape == value.shape and output.size > 1 and np.array_equal(output, value)
        for output in giver.outputs.values()
    )


def _is_input_of(giver: CapturedModule, taker: CapturedModule) -> bool:
    """Checks whether an output of one module is an input of another: the same values."""
    return any(_is_output(giver, value) for value in taker.inputs.values())


def _returns_its_input(module: CapturedModule) -> bool:
    """Checks whether a module does nothing, such as dropout at inference."""
    return all(_is_output(module, value) for value in module.inputs.values()) and bool(
        module.inputs
    )


def _list_names(names: Sequence[str]) -> str:
    """Lists the first names and the number of the others."""
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} others"
