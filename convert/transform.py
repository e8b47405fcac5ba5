"""Runs the steps of a plan: from arrays of the source to arrays of the target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from equipoise.convert.errors import CoverageError, InputError
from equipoise.convert.generate import generate
from equipoise.convert.ops import apply_all
from equipoise.convert.steps import SOURCE, TARGET, Check, Step
from equipoise.convert.tensor import Array, TensorHeader, TensorRef

_TILE = 256
"""Rows and columns of the squares in which a matrix is transposed; fits the first-level cache."""


def is_copy(step: Step, ref: TensorRef | None) -> bool:
    """Whether a step passes the bytes of one tensor on as they are."""
    if ref is None or len(step.sources) != 1 or len(step.targets) != 1:
        return False
    plain = all(not rule.ops for rule in step.rules)
    return plain and step.targets[0].dtype == ref.dtype


def results(step: Step, arrays: Mapping[str, Array]) -> Iterator[tuple[TensorHeader, Array]]:
    """The step's targets, one after the other, C-contiguous and in the dtype of their headers.

    Args:
        step: The step.
        arrays: The step's sources by their names in the source's files.

    Raises:
        InputError: A finite number becomes infinite by the cast.
    """
    if step.generator is not None:
        (header,) = step.targets
        (rule,) = step.rules
        shape = rule.inverse.shapes((header.shape,))[0]
        (array,) = apply_all(rule.ops, (generate(step.generator, shape, header.dtype),))
        yield header, contiguous(array)
        return
    env = {
        SOURCE + name: arrays[source]
        for name, source in zip(step.inputs, step.sources, strict=True)
    }
    if not step.rules:
        env = {TARGET + name: env[SOURCE + name] for name in step.outputs}
    for rule in step.rules:
        made = apply_all(rule.ops, tuple(env[name] for name in rule.sources))
        env.update(zip(rule.targets, made, strict=True))
    for name, header in zip(step.outputs, step.targets, strict=True):
        yield header, cast(contiguous(env.pop(TARGET + name)), header)


def contiguous(array: Array) -> Array:
    """The array in C order; large transposed matrices are copied square by square, three times as fast."""
    if array.flags.c_contiguous or array.ndim != 2 or array.size < _TILE * _TILE:
        return np.asarray(array, order="C")
    out = np.empty(array.shape, array.dtype)
    rows, columns = array.shape
    for row in range(0, rows, _TILE):
        for column in range(0, columns, _TILE):
            here = np.s_[row : row + _TILE, column : column + _TILE]
            out[here] = array[here]
    return out


def cast(array: Array, header: TensorHeader) -> Array:
    """The array in the header's dtype.

    Raises:
        InputError: A finite number becomes infinite.
    """
    if array.dtype == header.dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(header.dtype)
        lost = np.isinf(result) & np.isfinite(array)
    if lost.any():
        raise InputError(
            f"{int(lost.sum())} finite numbers become infinite in {header.dtype.name}",
            tensor=header.name,
            found=f"largest magnitude {np.abs(array[np.isfinite(array)]).max()}",
            hint="cast to bf16, which has the range of fp32, or keep the dtype",
        )
    return result


def run_check(check: Check, tensors: Mapping[str, TensorRef]) -> None:
    """Compares the values of a tensor that will not be written with what the target will use.

    Raises:
        CoverageError: They differ.
    """
    found = tensors[check.name].read()
    if check.other is not None:
        expected = tensors[check.other].read()
        what = f"equal to {check.other!r}"
    else:
        expected = generate(str(check.generator), check.shape, found.dtype)
        what = f"the values of {check.generator!r}"
    if found.shape == expected.shape and found.tobytes() == expected.tobytes():
        return
    problem = (
        f"{check.name!r} is not {what}, and {check.reason}; "
        f"--allow '{check.name}=REASON' converts without it"
    )
    raise CoverageError("a tensor would be lost:", [problem], file=tensors[check.name].file)
