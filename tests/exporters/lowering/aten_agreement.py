"""Compares an ATen operator in JAX with PyTorch, value by value."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from aten_cases.tensors import OPEN, Size
from aten_samples import Sample, kind_of

MAX_ULPS = 8
"""Largest error in float32 ULPs, as PyTorch's own results differ between machines; fp16 and bf16: one ULP."""
MAX_SUM_ULPS = 8
"""Largest error of a sum in ULPs of the largest value, as the order of a sum is free; fp16 and bf16 are summed in float32."""
MAX_CANCELLATION = {"gelu": 1e-6, "digamma": 1e-7, "lgamma": 1e-7}
"""Largest error of a result near zero relative to the terms that cancel, as in PyTorch itself."""
ELEMENTWISE = ("unary", "binary")
"""Modules whose operators sum nothing: every value and the sign of every zero is compared on its own."""
MAX_CANCELLATION_HALF = {"upsample_bicubic2d": 1e-3, "addbmm": 0.5}
"""The same for fp16 and bf16: PyTorch rounds intermediate results, too."""
EITHER_ZERO = ("maximum", "minimum", "fmax", "fmin", "relu", "sign")
"""Operators that may return a zero of either sign."""
COMPUTED_IN_FLOAT64 = frozenset(
    ("digamma", "erfc", "exp2", "lgamma", "_fft_c2c", "_fft_r2c", "avg_pool2d", "avg_pool3d")
)
"""Operators that are computed in float64: in float32 JAX is too inaccurate, and means of integers need it."""
DOUBLES = "computes in float64, PyTorch in float32"
WITH_OWN_GRADIENT = frozenset(("convolution",))
"""Operators with special code for their gradient under symbolic sizes: JAX must be able to differentiate them."""
EXACT_FAMILIES = ("shape", "indexing", "creation")
"""Modules whose operators move values and round nothing."""
INTEGER_RESULTS = (
    "aten.div.Tensor_mode",
    *(f"aten.{name}.default" for name in ("ceil", "floor", "trunc", "round")),
)
"""Operators whose results are integers: no value may differ while a ULP is less than one."""


def to_jax_argument(value: Any, sizes: Any = None) -> Any:
    """Converts an argument as the interpreter does for an operator."""
    import torch

    from equipoise.exporters.lowering.dtypes import to_jax_dtype
    from equipoise.exporters.lowering.interpreter import PLACEMENT_ARGUMENTS, to_jax_array

    if torch.is_tensor(value):
        return to_jax_array(value)
    if isinstance(value, torch.dtype):
        return to_jax_dtype(value)
    if isinstance(value, (list, tuple)):
        return [to_jax_argument(one, sizes) for one in value]
    if isinstance(value, dict):
        return {
            key: to_jax_argument(one, sizes)
            for key, one in value.items()
            if key not in PLACEMENT_ARGUMENTS
        }
    return sizes(value.text) if sizes and isinstance(value, Size) else value


class Program:
    """One program for several samples, whose tensors are its inputs: compiling a program is what takes time."""

    def __init__(self, function: Callable[..., Any], samples: Sequence[Sample]) -> None:
        import jax
        from jax import export

        self._samples = samples
        sizes = _size_evaluator() if samples[0].symbolic else None
        calls = [
            (to_jax_argument(one.args, sizes), to_jax_argument(one.kwargs, sizes))
            for one in samples
        ]
        leaves, tree = jax.tree.flatten(calls)
        # The first one is for its sizes: JAX wants to find each open size in an input.
        first = np.zeros([size for size, text in OPEN.items() if text in "nm"], bool)
        self._arrays = [first, *(one for one in leaves if isinstance(one, jax.Array))]

        def program(arrays: Any) -> Any:
            given = iter(arrays[1:])
            filled = [next(given) if isinstance(one, jax.Array) else one for one in leaves]
            calls = jax.tree.unflatten(tree, filled)
            return [function(*args, **kwargs) for args, kwargs in calls]

        compiled = jax.jit(program)
        if sizes:
            symbolic = export.export(compiled)(
                [_symbolic_shape_of(one, sizes) for one in self._arrays]
            )
            compiled = jax.jit(symbolic.call)
            if {one.operator.split(".")[1] for one in samples} <= WITH_OWN_GRADIENT:
                symbolic.vjp()
        self._lowered = compiled.lower(self._arrays)
        self.text = symbolic.mlir_module() if sizes else self._lowered.as_text()

    def doubles(self) -> bool:
        """Whether it computes in float64 where PyTorch does not; float64 is slow or missing on some devices."""
        import torch
        from torch.utils._pytree import tree_leaves

        if {one.operator.split(".")[1] for one in self._samples} & COMPUTED_IN_FLOAT64:
            return False
        wide = (torch.float64, torch.complex128)
        values = tree_leaves([(one.args, one.kwargs, one.expected) for one in self._samples])
        given = {one.dtype if torch.is_tensor(one) else one for one in values}
        return "f64" in self.text and not any(one in wide for one in given)

    def answers(self) -> list[Any]:
        """Returns the operator's result for each sample."""
        return list(self._lowered.compile()(self._arrays))


def _size_evaluator() -> Callable[[str], Any]:
    """Evaluates the text of a size with the symbolic sizes."""
    from jax import export

    bounds = ["n >= 6", "n <= 50", "m >= 6", "m <= 50"]
    found = dict(zip("nm", export.symbolic_shape("n, m", constraints=bounds), strict=True))
    return lambda text: eval(text, {}, found)


def _symbolic_shape_of(array: Any, sizes: Callable[[str], Any]) -> Any:
    import jax

    shape = [sizes(OPEN[size]) if size in OPEN else size for size in array.shape]
    return jax.ShapeDtypeStruct(shape, array.dtype)


def disagreements(
    function: Callable[..., Any], samples: Sequence[Sample], family: str
) -> list[str]:
    """Returns a description of every disagreement between the operator in JAX and PyTorch."""
    import jax

    found = []
    with jax.enable_x64(True):
        for _, some in itertools.groupby(samples, kind_of):
            found += _disagreements_of_kind(function, list(some), family)
    return found


def _disagreements_of_kind(
    function: Callable[..., Any], samples: Sequence[Sample], family: str
) -> list[str]:
    if samples[0].refused:
        return [f"{one}: not refused" for one in samples if not is_refused(function, one)]
    program = Program(function, samples)
    found = [f"{samples[0].operator}: {DOUBLES}"] if program.doubles() else []
    for sample, given in zip(samples, program.answers(), strict=True):
        if differing := disagreement(sample, given, family):
            found.append(f"{sample}: {differing}")
    return found


def is_refused(function: Callable[..., Any], sample: Sample) -> bool:
    """Returns whether the operator raises the error that no program can compute it."""
    try:
        Program(function, [sample])
    except NotImplementedError:
        return True
    return False


def disagreement(sample: Sample, given: Any, family: str) -> str | None:
    """Describes how a result differs from PyTorch's; None if it agrees."""
    import torch

    expected = _pad_selected_rows(sample)
    if not isinstance(expected, (list, tuple)):
        expected, given = [expected], [given]
    if len(given) != len(expected):
        return f"{len(given)} results, PyTorch has {len(expected)}"
    for value, wanted in zip(given, expected, strict=True):
        if torch.is_tensor(wanted):
            found = _different(value, wanted, family, sample.operator)
        else:
            found = None if float(value) == wanted else f"{value}, PyTorch has {wanted}"
        if found:
            return found
    return None


def _pad_selected_rows(sample: Sample) -> Any:
    """Pads PyTorch's result with NaN behind the rows that a mask selects, up to the length of the mask."""
    import torch

    masks = [
        (axis, one)
        for axis, one in enumerate(sample.args[1] if sample.operator == "aten.index.Tensor" else ())
        if one is not None and one.dtype == torch.bool
    ]
    wanted = sample.expected
    for axis, mask in masks:
        shape = list(wanted.shape)
        shape[axis] = mask.numel() - shape[axis]
        is_fraction = wanted.dtype.is_floating_point or wanted.dtype.is_complex
        beyond = torch.full(shape, float("nan") if is_fraction else 0, dtype=wanted.dtype)
        wanted = torch.cat([wanted, beyond], axis)
    return wanted


def _different(value: Any, wanted: Any, family: str, operator: str) -> str | None:
    from equipoise.exporters.lowering.dtypes import to_jax_dtype
    from equipoise.exporters.lowering.interpreter import to_jax_array

    if value.dtype != to_jax_dtype(wanted.dtype) or tuple(value.shape) != tuple(wanted.shape):
        return f"{value.dtype}{list(value.shape)}, PyTorch has {wanted.dtype}{list(wanted.shape)}"
    if operator.startswith("aten.empty"):
        return None
    ours, theirs = (np.asarray(one) for one in (value, to_jax_array(wanted)))
    good = _equal_or_nan(ours, theirs)
    name = operator.split(".")[1]
    if family in ELEMENTWISE and name not in EITHER_ZERO:
        good &= _signs(ours) == _signs(theirs)
    if family not in EXACT_FAMILIES and (wanted.dtype.is_floating_point or wanted.dtype.is_complex):
        scale = 0.0 if family in ELEMENTWISE else MAX_SUM_ULPS
        cancelled = MAX_CANCELLATION_HALF if wanted.dtype.itemsize == 2 else MAX_CANCELLATION
        near = _within_ulps(ours, theirs, wanted.dtype, scale, cancelled.get(name, 0))
        good |= near & (np.abs(theirs) >= 2**24) if operator in INTEGER_RESULTS else near
    return _describe_difference(ours, theirs, good)


def _within_ulps(ours: Any, theirs: Any, dtype: Any, sums: float, cancelled: float) -> Any:
    """Returns whether values are within the allowed ULPs; zeros must have equal signs."""
    import torch

    info, half = torch.finfo(dtype), dtype.itemsize == 2
    wide = np.complex128 if dtype.is_complex else np.float64
    ours, theirs = ours.astype(wide), theirs.astype(wide)
    finite = np.abs(theirs[np.isfinite(theirs)])
    largest = float(finite.max()) if finite.size else 0.0
    steps = (1 if half else MAX_ULPS) * np.abs(theirs) + (0 if half else sums) * largest
    with np.errstate(invalid="ignore"):
        bound = info.eps * steps + cancelled + info.tiny
        return np.isfinite(theirs) & (np.abs(ours - theirs) <= bound) & (ours != theirs)


def _equal_or_nan(ours: Any, theirs: Any) -> Any:
    """Returns whether values are equal or both NaN."""
    with np.errstate(invalid="ignore"):
        return (ours == theirs) | (_both_nan(ours) & _both_nan(theirs))


def _both_nan(values: Any) -> Any:
    return np.isnan(values) if values.dtype.kind in "fcV" else np.zeros(values.shape, bool)


def _signs(values: Any) -> Any:
    """Returns which zeros are negative."""
    if values.dtype.kind not in "fV":
        return np.zeros(values.shape, bool)
    return np.signbit(values) & (values == 0)


def _describe_difference(ours: Any, theirs: Any, good: Any) -> str | None:
    if bool(np.all(good)):
        return None
    where = tuple(int(one) for one in np.argwhere(~np.atleast_1d(good))[0])
    mine, other = (np.atleast_1d(one)[where] for one in (ours, theirs))
    return f"{mine!r} at {list(where)}, PyTorch has {other!r}"


def family_of(function: Callable[..., Any]) -> str:
    """Returns the module of ``ops`` that defines a function; plain JAX functions count as element-wise."""
    package, _, module = function.__module__.rpartition(".")
    return module if package.endswith("lowering.ops") else "unary"
