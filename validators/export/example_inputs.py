"""Example inputs of an export: what the task itself feeds to PyTorch, recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from equipoise.convert.core.errors import InputError
from equipoise.exporters.example_inputs import ExampleInputs, varying_axes
from equipoise.validators.core.types import Batch, Case, Sample
from equipoise.validators.evaluation.context import EvaluationContext, every_batch
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.runtime.recorder import Recorder
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner
from equipoise.validators.tasks.base import load_samples

FIXABLE_AXES = {"batch": "batch_size", "sequence": "sequence_length"}
"""What a user may fix the size of -> the axis in a program."""


def example_inputs(
    context: EvaluationContext,
    sizes: Mapping[str, int],
    *,
    fixed: bool = False,
    dynamic: Collection[str] = (),
) -> ExampleInputs:
    """Returns the inputs of one pass of the task on a batch, and the axes that vary over all of its cases.

    Args:
        context: The model and its task. Which cases are judged says nothing about the program: all of the task count.
        sizes: ``batch`` or ``sequence`` -> the only size that the program shall accept.
        fixed: Whether the program shall only accept the sizes of the example.
        dynamic: Names that must be dynamic, or there is no export.

    Raises:
        InputError: The task's inputs have no such axis, the task never runs the model as a whole, or it runs it at
            several sizes although they shall be fixed.
    """
    is_fixed = bool(sizes) or fixed
    known = every_batch(context)
    batch = batch_of_sizes(context, sizes) if is_fixed else _largest_batch(known)
    recorder = _record_passes(context, batch)
    if not recorder.passes:
        raise InputError(
            f"{context.task.name} never runs the model as a whole", file=context.model.path
        )
    if fixed:
        _check_one_size(context, recorder)
    arrays = recorder.passes[-1]
    names = set(arrays)
    passes = [one for one in recorder.passes if set(one) == names]
    batches = [
        {name: value for name, value in one.arrays.items() if name in names} for one in known
    ]
    axes = varying_axes([*passes, *batches])
    fixed_axes = tuple(FIXABLE_AXES[name] for name in sizes)
    dynamic_axes = {
        name: {
            axis: symbol
            for axis, symbol in axes[name].items()
            # Of two batches, as CLIP's images and texts are, both are fixed.
            if not symbol.endswith(fixed_axes) and not fixed
        }
        for name in arrays
    }
    _check_axes(context, (*sizes, *dynamic), axes)
    _check_dynamic(context, ExampleInputs(arrays, dynamic_axes, {}), dynamic)
    wants_cache = any(one.case.options.get("cache") for one in known)
    caches = wants_cache and recorder.caches and not is_fixed
    return ExampleInputs(arrays, dynamic_axes, dict(batch.kwargs), caches)


def batch_of_sizes(context: EvaluationContext, sizes: Mapping[str, int]) -> Batch:
    """Returns a batch of exactly these sizes: samples are repeated, texts are cut or padded.

    Raises:
        InputError: The samples give the model other numbers of rows than the batch that is wanted.
    """
    samples = list(context.request.samples or load_samples(context.task, context.model))
    like = _largest_batch(every_batch(context)).case
    length, rows = sizes.get("sequence"), sizes.get("batch")
    options = {"max_tokens": length, "extra_padding": length} if length else {}

    def encode(chosen: Sequence[Sample]) -> Batch:
        case = Case("fixed", tuple(chosen), {**like.options, **options})
        return context.task.encode(context.model, case)

    batch = encode(take_cyclic(samples, rows or len(like.samples)))
    if rows is None or _rows(batch) == rows:
        return batch
    # A text with three labels, or with a long context, is three rows.
    counts = [_rows(encode([sample])) for sample in samples]
    chosen = _with_sum(counts, rows)
    if chosen is None:
        found = " or ".join(str(one) for one in sorted(set(counts)))
        raise InputError(
            f"no samples of {context.task.name} give the model a batch of {rows}",
            found=f"a sample gives {found} rows",
            hint="another --batch, or --batch dynamic",
        )
    return encode([samples[index] for index in chosen])


def _rows(batch: Batch) -> int:
    """Returns how many rows the model is given; the number of samples where its inputs have different numbers."""
    rows = {len(value) for value in batch.arrays.values() if value.ndim}
    return rows.pop() if len(rows) == 1 else len(batch.case.samples)


def _with_sum(counts: Sequence[int], total: int) -> list[int] | None:
    """Returns indices, also repeated ones, of numbers with a sum; None: there are none.

    >>> _with_sum([3, 2], 7)
    [0, 1, 1]
    """
    found: dict[int, list[int]] = {0: []}
    for reached in range(1, total + 1):
        for index, count in enumerate(counts):
            if reached - count in found:
                found[reached] = sorted([*found[reached - count], index])
                break
    return found.get(total)


def _largest_batch(batches: Sequence[Batch]) -> Batch:
    """Returns the case ``batch``, or else any case, preferring those of many samples; without a cache."""
    uncached = [one for one in batches if not one.case.options.get("cache")]
    named = [one for one in uncached if one.case.name == "batch"]
    by_size = sorted(batches, key=lambda one: -len(one.case.samples))
    batch = (named or uncached or by_size)[0]
    options = {name: value for name, value in batch.case.options.items() if name != "cache"}
    return replace(batch, case=replace(batch.case, options=options))


def _record_passes(context: EvaluationContext, batch: Batch) -> Recorder:
    """Runs a batch on PyTorch and records the inputs of every pass."""
    worker = context.pool.get("pytorch")
    options = {"dtype": "float32", "threads": context.request.threads}
    model = RemoteModel(worker, "pytorch", context.class_name, context.pytorch.path, **options)
    recorder = Recorder(RemoteRunner(model))
    context.task.run(recorder, context.model, batch)
    model.drop()
    context.free_memory()
    return recorder


def _check_one_size(context: EvaluationContext, recorder: Recorder) -> None:
    """Checks that a task runs the model at one size only, as text generation does not.

    Raises:
        InputError: It runs the model at several sizes.
    """
    sizes = {
        tuple(sorted((name, value.shape) for name, value in one.items())) for one in recorder.passes
    }
    if len(sizes) > 1:
        raise InputError(
            f"{context.task.name} runs the model at {len(sizes)} sizes, and the target's programs have one",
            file=context.model.path,
            hint="another target, such as onnx or stablehlo",
        )


def _check_axes(
    context: EvaluationContext,
    names: Collection[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Checks that the inputs have the axes that the user says something about.

    Raises:
        InputError: No input has such an axis.
    """
    known = {symbol for one in axes.values() for symbol in one.values()}
    fixable = [name for name, axis in FIXABLE_AXES.items() if axis in known]
    for name in names:
        if name not in fixable:
            raise InputError(
                f"the inputs of {context.task.name} have no axis {name}",
                expected=", ".join(fixable) or "none that can be fixed",
            )


def _check_dynamic(
    context: EvaluationContext, inputs: ExampleInputs, names: Collection[str]
) -> None:
    """Checks that an example shows that axes are dynamic: of one row, exporters make a program of one row.

    Raises:
        InputError: The example has the size 1 there.
    """
    for name in names:
        for array, axes in inputs.axes.items():
            sizes = {
                inputs.arrays[array].shape[axis]
                for axis in axes
                if axes[axis] == FIXABLE_AXES[name]
            }
            if sizes == {1}:
                raise InputError(
                    f"{context.task.name} runs the model with a {name} of 1: it is not dynamic",
                    file=context.model.path,
                    hint=f"leave out --{name} dynamic",
                )
