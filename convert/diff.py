"""Compares two checkpoints tensor by tensor, whatever their containers and layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.find_class import find_class
from equipoise.convert.checkpoints.matching import ClassMatch
from equipoise.convert.checkpoints.parameters import CheckpointParameters, checkpoint_parameters
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, SpecError
from equipoise.convert.core.tensor import TensorRef, is_floating

Progress = Callable[[int, int, str], None]
"""Called with tensors compared, total tensors, and the current tensor."""

_PIECE_ELEMENTS = 1 << 20
"""Elements that are compared at once; bounds the memory beyond the two tensors."""


class TensorRelation(StrEnum):
    """How a tensor of one checkpoint relates to the same tensor of the other."""

    IDENTICAL = "identical"
    CAST = "equal after cast"
    DIFFERENT = "different"
    MISSING_A = "missing in A"
    MISSING_B = "missing in B"


@dataclass(frozen=True)
class TensorDifference:
    """How much two tensors differ.

    Attributes:
        elements: How many elements differ.
        max_abs: The largest difference between finite elements.
        max_rel: The largest difference relative to the larger of the two magnitudes.
        not_finite: How many of the differing elements are infinite or NaN in one of the tensors.
    """

    elements: int
    max_abs: float
    max_rel: float
    not_finite: int


@dataclass(frozen=True)
class TensorComparison:
    """The comparison of one tensor.

    Attributes:
        name: The tensor: PyTorch's parameter, or the name in the files where the architecture is unknown.
        relation: How the two relate.
        a: The tensor of the first checkpoint, None where it is missing.
        b: The tensor of the second checkpoint.
        distance: How much they differ, for different tensors of one shape.
    """

    name: str
    relation: TensorRelation
    a: TensorRef | None
    b: TensorRef | None
    distance: TensorDifference | None = None


@dataclass(frozen=True)
class CheckpointComparison:
    """The comparison of two checkpoints.

    Attributes:
        by: ``parameters`` of the architecture, or ``names`` in the files.
        tensors: One entry for each tensor.
        not_compared: Names that are not compared -> the reason.
        notes: Remarks for the user.
    """

    by: str
    tensors: tuple[TensorComparison, ...]
    not_compared: Mapping[str, str]
    notes: tuple[str, ...]

    def count(self, sameness: TensorRelation) -> int:
        """Returns how many tensors have this relation."""
        return sum(one.relation is sameness for one in self.tensors)

    @property
    def same(self) -> bool:
        """Whether nothing is different or missing; tensors that are equal after a cast pass."""
        passing = (TensorRelation.IDENTICAL, TensorRelation.CAST)
        return all(one.relation in passing for one in self.tensors)


@dataclass(frozen=True)
class _Pairing:
    by: str
    a: Mapping[str, TensorRef]
    b: Mapping[str, TensorRef]
    not_compared: Mapping[str, str]
    notes: tuple[str, ...]


def compare_checkpoints(
    a: Checkpoint,
    b: Checkpoint,
    progress: Progress | None = None,
    *,
    architecture: str | None = None,
) -> CheckpointComparison:
    """Compares two checkpoints tensor by tensor; holds two tensors in memory.

    Checkpoints of one known architecture are compared as PyTorch's parameters, with ties resolved and computed
    parameters filled in. Others are compared by the names in their files, which must have one layout then.
    ``architecture`` is the option of :func:`equipoise.convert.convert`.

    Raises:
        CheckpointError: The layouts differ and the architecture is unknown.
        ContainerError: A file is not what its header said.
    """
    pairing = _pair_tensors(a, b, architecture)
    names = list(dict.fromkeys((*pairing.a, *pairing.b)))
    found = []
    for index, name in enumerate(names):
        if progress is not None:
            progress(index, len(names), name)
        found.append(_compare_tensors(name, pairing.a.get(name), pairing.b.get(name)))
    if progress is not None:
        progress(len(names), len(names), "")
    return CheckpointComparison(pairing.by, tuple(found), pairing.not_compared, pairing.notes)


def _pair_tensors(a: Checkpoint, b: Checkpoint, architecture: str | None) -> _Pairing:
    notes = []
    if a.config is None and b.config is not None:
        a = replace(a, config=b.config)
        notes.append("A has no config.json; the one of B serves both")
    elif b.config is None and a.config is not None:
        b = replace(b, config=a.config)
        notes.append("B has no config.json; the one of A serves both")
    first, second = _find_match(a, architecture), _find_match(b, architecture)
    if isinstance(first, ClassMatch) and isinstance(second, ClassMatch):
        same_layout = first.layout == second.layout
        if first.expansion.spec.model_type == second.expansion.spec.model_type and (
            not same_layout or (first.fits and second.fits)
        ):
            return _pair_by_parameters(
                checkpoint_parameters(a, first), checkpoint_parameters(b, second), notes
            )
    layouts = [
        one.layout if isinstance(one, ClassMatch) and one.fits else checkpoint.layout
        for one, checkpoint in ((first, a), (second, b))
    ]
    if None not in layouts and layouts[0] != layouts[1]:
        reasons = [str(one) for one in (first, second) if not isinstance(one, ClassMatch)]
        raise CheckpointError(
            f"layouts {layouts[0]} and {layouts[1]} cannot be compared without a known architecture",
            file=b.path,
            found=reasons[0] if reasons else "checkpoints of two architectures",
        )
    layout = layouts[0] or layouts[1]
    if layout is None or not all(isinstance(one, ClassMatch) for one in (first, second)):
        return _pair_by_names(a, b, notes)
    return _Pairing("names", a.in_layout(layout), b.in_layout(layout), {}, tuple(notes))


def _pair_by_names(a: Checkpoint, b: Checkpoint, notes: list[str]) -> _Pairing:
    """Pairs tensors of models that are not known by their names in the files, with or without the model's own name."""
    first, second = a.in_names_of_files(), b.in_names_of_files()
    if not first.keys() & second.keys() and a.layout == b.layout == "tensorflow":
        first, second = a.in_layout("tensorflow"), b.in_layout("tensorflow")
    return _Pairing("names", first, second, {}, tuple(notes))


def _find_match(
    checkpoint: Checkpoint, architecture: str | None
) -> ClassMatch | ArchitectureError | SpecError:
    """Returns the class that fits, or the error if there is none."""
    try:
        return find_class(checkpoint, architecture)
    except (ArchitectureError, SpecError) as error:
        return error


def _pair_by_parameters(
    a: CheckpointParameters, b: CheckpointParameters, notes: list[str]
) -> _Pairing:
    skipped: dict[str, str] = {}
    for side, other in ((a, b), (b, a)):
        for name, generator in side.computed.items():
            if generator == "unused" and name not in other.stored:
                skipped[name] = "a counter of PyTorch's training, in neither file"
            elif generator == "unused":
                skipped[name] = "a counter of PyTorch's training, in one file only"
            elif name not in other.stored:
                skipped[name] = "follows from the config, in neither file"
        skipped.update(side.ignored)
    pairs = []
    for side in (a, b):
        known = {name: ref for name, ref in side.tensors.items() if name not in skipped}
        pairs.append({**known, **side.unknown})
    for side, letter in ((a, "A"), (b, "B")):
        if side.tied:
            notes.append(
                f"{letter}: {len(side.tied)} parameters are tied to others and stored once"
            )
    return _Pairing("parameters", pairs[0], pairs[1], skipped, tuple(notes))


def _compare_tensors(name: str, a: TensorRef | None, b: TensorRef | None) -> TensorComparison:
    if a is None or b is None:
        return TensorComparison(
            name, TensorRelation.MISSING_A if a is None else TensorRelation.MISSING_B, a, b
        )
    if a.shape != b.shape:
        return TensorComparison(name, TensorRelation.DIFFERENT, a, b)
    first, second = a.read(), b.read()
    if a.dtype == b.dtype and _same_bytes(first, second):
        return TensorComparison(name, TensorRelation.IDENTICAL, a, b)
    if a.dtype != b.dtype and equal_after_cast(first, second):
        return TensorComparison(name, TensorRelation.CAST, a, b)
    return TensorComparison(name, TensorRelation.DIFFERENT, a, b, measure_difference(first, second))


def _same_bytes(a: Array, b: Array) -> bool:
    return bool(np.array_equal(_bytes(a), _bytes(b)))


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def equal_after_cast(a: Array, b: Array) -> bool:
    """Whether the wider of two floating-point tensors equals the other bit for bit after a cast to its dtype.

    For dtypes of equal width (fp16 and bf16) both directions are tried. Other tensors must have equal values.
    """
    if not (_is_rounded(a) and _is_rounded(b)):
        return bool(np.array_equal(a, b))
    with np.errstate(over="ignore", invalid="ignore"):
        down = a.itemsize >= b.itemsize and _same_bytes(a.astype(b.dtype), b)
        return down or (b.itemsize >= a.itemsize and _same_bytes(b.astype(a.dtype), a))


def _is_rounded(array: Array) -> bool:
    return array.dtype.kind == "c" or is_floating(array.dtype)


def measure_difference(a: Array, b: Array) -> TensorDifference:
    """Returns how much two tensors of one shape differ, computed in float64 (or complex128) piece by piece."""
    elements = not_finite = 0
    max_abs = max_rel = 0.0
    for first, second in _pieces(a, b):
        if first.dtype == second.dtype:
            width = first.dtype.itemsize
            differs = (_bytes(first) != _bytes(second)).reshape(-1, width).any(axis=1)
        else:
            differs = None
        wide = np.complex128 if "c" in (first.dtype.kind, second.dtype.kind) else np.float64
        x, y = first.astype(wide), second.astype(wide)
        if differs is None:
            differs = ~((x == y) | (np.isnan(x) & np.isnan(y)))
        finite = np.isfinite(x) & np.isfinite(y)
        elements += int(differs.sum())
        not_finite += int((differs & ~finite).sum())
        gap = np.abs(x[finite] - y[finite])
        size = np.maximum(np.abs(x[finite]), np.abs(y[finite]))
        max_abs = max(max_abs, float(gap.max(initial=0)))
        ratios = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
        max_rel = max(max_rel, float(ratios.max(initial=0)))
    return TensorDifference(elements, max_abs, max_rel, not_finite)


def _pieces(a: Array, b: Array) -> Iterator[tuple[Array, Array]]:
    first, second = a.reshape(-1), b.reshape(-1)
    for start in range(0, first.size, _PIECE_ELEMENTS):
        yield first[start : start + _PIECE_ELEMENTS], second[start : start + _PIECE_ELEMENTS]
