"""The inputs that a program is made with: what the task itself asks of PyTorch, recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from equipoise.convert.core.errors import InputError
from equipoise.exporters.inputs import Inputs, varying_axes
from equipoise.validators.environment import RemoteModel
from equipoise.validators.recorder import Recorder
from equipoise.validators.remote import RemoteRunner
from equipoise.validators.setup import Setup
from equipoise.validators.tasks.base import Batch, Case, cycle, samples_of

SIZES = ("batch", "sequence")
"""Axes whose size a user may fix."""


def example_inputs(setup: Setup, sizes: Mapping[str, int], *, fixed: bool = False) -> Inputs:
    """One pass that the task makes on a batch, and which axes vary over all its cases.

    Args:
        setup: The model, its task and the cases.
        sizes: Axes that are to have one size for good.
        fixed: Whether all axes are to have the size of the example for good.

    Raises:
        InputError: The task's inputs have no such axis, the task never runs the model as a whole, or not always at
            the same size though that is fixed.
    """
    batch = fixed_batch(setup, sizes) if sizes or fixed else _plain(setup)
    recorder = _recorded(setup, batch)
    if not recorder.passes:
        raise InputError(
            f"{setup.task.name} never runs the model as a whole", file=setup.model.path
        )
    if fixed:
        _assert_one_size(setup, recorder)
    arrays = recorder.passes[-1]
    names = set(arrays)
    alike = [one for one in recorder.passes if set(one) == names]
    every = [
        {name: value for name, value in one.arrays.items() if name in names}
        for one in setup.batches
    ]
    axes = varying_axes([*alike, *every])
    left = {
        name: {
            axis: symbol for axis, symbol in axes[name].items() if symbol not in sizes and not fixed
        }
        for name in arrays
    }
    _assert_sizes(setup, sizes, axes)
    wants = any(one.case.options.get("cache") for one in setup.batches)
    caches = wants and recorder.caches and not (sizes or fixed)
    return Inputs(arrays, left, dict(batch.kwargs), caches)


def fixed_batch(setup: Setup, sizes: Mapping[str, int]) -> Batch:
    """A batch of just these sizes: samples again and again, texts cut or padded."""
    samples = setup.request.samples or samples_of(setup.task, setup.model)
    like = _plain(setup).case
    length = sizes.get("sequence")
    options = {"limit": length, "extra": length} if length else {}
    count = sizes.get("batch", len(like.samples))
    case = Case("fixed", cycle(list(samples), count), {**like.options, **options})
    return setup.task.encode(setup.model, case)


def _plain(setup: Setup) -> Batch:
    """The batch of several samples, else whatever there is, the largest of those with a cache; without a cache."""
    plain = [one for one in setup.batches if not one.case.options.get("cache")]
    named = [one for one in plain if one.case.name == "batch"]
    cached = sorted(setup.batches, key=lambda one: -len(one.case.samples))
    found = (named or plain or cached)[0]
    options = {name: value for name, value in found.case.options.items() if name != "cache"}
    return replace(found, case=replace(found.case, options=options))


def _recorded(setup: Setup, batch: Batch) -> Recorder:
    environment = setup.workers.get("pytorch")
    options = {"dtype": "float32", "threads": setup.request.threads}
    model = RemoteModel(environment, "pytorch", setup.class_name, setup.pytorch.path, **options)
    recorder = Recorder(RemoteRunner(model))
    setup.task.run(recorder, setup.model, batch)
    model.drop()
    setup.make_room()
    return recorder


def _assert_one_size(setup: Setup, recorder: Recorder) -> None:
    """Refuses a task that calls the model at several sizes, as writing a text does."""
    sizes = {
        tuple(sorted((name, value.shape) for name, value in one.items())) for one in recorder.passes
    }
    if len(sizes) > 1:
        raise InputError(
            f"{setup.task.name} runs the model at {len(sizes)} sizes, and the target's programs have one",
            file=setup.model.path,
            hint="another target, such as onnx or stablehlo",
        )


def _assert_sizes(
    setup: Setup,
    sizes: Mapping[str, int],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Refuses a size for an axis that no input has."""
    known = {symbol for one in axes.values() for symbol in one.values()}
    for name in sizes:
        if name not in known:
            raise InputError(
                f"the inputs of {setup.task.name} have no axis {name}",
                expected=", ".join(sorted(known & set(SIZES))) or "none that can be fixed",
            )
