"""Audits the weights of programs against their source, without running anything."""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

import numpy as np

from equipoise.convert.core.arrays import Array, DType, bit_sum
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.tensor import DTYPES, TensorRef, is_floating
from equipoise.validators.audit.content.arrangements import find_arrangement
from equipoise.validators.audit.content.names import NameIndex, layer_of
from equipoise.validators.audit.content.report import (
    AuditedWeight,
    AuditReport,
    Explanation,
    NonFiniteWeight,
    UnaccountedWeight,
)
from equipoise.validators.audit.content.source import SourceWeights
from equipoise.validators.audit.content.weights import ProgramContent, ProgramWeight, WeightRole
from equipoise.validators.audit.matching.computed import describe_table, is_fill
from equipoise.validators.audit.matching.differences import describe_difference
from equipoise.validators.audit.matching.exact import match_exactly
from equipoise.validators.audit.matching.finite import find_non_finite
from equipoise.validators.audit.matching.folds import FoldFinder
from equipoise.validators.audit.matching.nearest import find_neighbour
from equipoise.validators.audit.matching.pieces import PieceFinder
from equipoise.validators.audit.matching.quantized import QuantizedFinder
from equipoise.validators.audit.matching.suspects import MAX_SMALL, judge_suspect
from equipoise.validators.audit.readers import read_program

_MOSTLY = 0.5
"""Share of equal elements from which on nothing but the tensor of the same name can explain a weight."""


class Auditor:
    """Audits programs of one source.

    Args:
        tensors: The source's tensors by name.
        precision: The dtype that the programs are declared to have; None: that of most of their weights.
    """

    def __init__(self, tensors: Mapping[str, TensorRef], precision: str | None = None) -> None:
        self._source = SourceWeights(tensors)
        self._names = NameIndex(self._source.refs)
        self._precision = None if precision is None else DTYPES[precision]
        self._reports: dict[tuple[str, Path], AuditReport] = {}

    def audit(self, backend: str, path: Path) -> AuditReport:
        """Audits what a backend loads; a program that cannot be read gives a report that says why."""
        if (backend, path) not in self._reports:
            start = time.perf_counter()
            try:
                content = read_program(backend, path)
                with np.errstate(all="ignore"):  # weights may hold NaN and infinity
                    run = _Audit(self._source, self._names, content, self._precision)
                    report = run.report(start)
            except (EquipoiseError, OSError) as error:
                report = AuditReport(failure=str(error).splitlines()[0])
            self._reports[backend, path] = report
        return self._reports[backend, path]


class _Audit:
    """The audit of one program, as far as it has come."""

    def __init__(
        self,
        source: SourceWeights,
        names: NameIndex,
        content: ProgramContent,
        precision: DType | None,
    ) -> None:
        self._source = source
        self._names = names
        self._content = content
        readable = (one for one in content.weights if one.ref.size and one.ref.dtype.kind != "c")
        self._weights = {one.key: one for one in readable}.values()
        self._common = _common_dtype(self._weights)
        self._precision = precision or self._common
        self._kernels: dict[Hashable, list[str]] = {}
        self._matched: dict[Hashable, str] = {}
        self._used: set[str] = set()
        self._traced: list[AuditedWeight] = []
        self._explained: list[AuditedWeight] = []
        self._wrong: list[UnaccountedWeight] = []
        self._unknown: list[UnaccountedWeight] = []
        self._non_finite: list[NonFiniteWeight] = []
        self._small = 0
        self._pieces: dict[str, PieceFinder] = {}
        self._folds = FoldFinder(source)
        self._quantized = QuantizedFinder(source)

    def report(self, start: float) -> AuditReport:
        """Audits every weight, those first that are a tensor of the source as it is."""
        left = [one for one in self._weights if not self._trace(one)]
        self._check_biases()
        self._kernels = self._kernels_by_bias()
        self._search_opaque_files()
        # Tables come last: until then it is not known which tensors they might stand for.
        for tables in (False, True):
            left = [one for one in left if not self._explain(one, tables=tables)]
        for weight in left:
            self._suspect(weight)
        sources = (find_non_finite("source", n, self._source.read(n)) for n in self._source.refs)
        return AuditReport(
            tuple(self._traced),
            tuple(self._explained),
            tuple(self._wrong),
            tuple(self._unknown),
            tuple(one for one in self._unused() if self._matters(one)),
            (*self._non_finite, *(one for one in sources if one is not None)),
            self._small,
            round(time.perf_counter() - start, 3),
        )

    def _trace(self, weight: ProgramWeight) -> bool:
        """Records a weight that is a tensor of the source; returns whether it is one."""
        found = weight.ref.read()
        named = self._names.find(weight.name, weight.module)
        match = match_exactly(found, self._source, self._precision, named)
        if match is None:
            return False
        stored = self._source.refs[match.name].dtype
        self._used.add(match.name)
        self._matched[weight.key] = match.name
        self._look_for_nan(weight, found)
        if named not in ("", match.name) and self._source.fits(named, found):
            self._used.add(named)
            self._wrong.append(weight.unaccounted(f"holds the values of {match.name}", named))
        elif self._is_too_narrow(weight.ref.dtype, stored):
            problem = (
                f"is stored as {weight.ref.dtype.name}, the source and the program as {stored.name}"
            )
            self._wrong.append(weight.unaccounted(problem, match.name))
        elif found.size > 1 or is_floating(found.dtype):
            kept = self._explained if match.is_cast else self._traced
            kept.append(weight.audited((match.name,), match.how))
        else:
            self._small += 1
        return True

    def _is_too_narrow(self, found: DType, source: DType) -> bool:
        """Whether a weight has fewer bits than the source, the program as a whole and its declared precision."""
        wide = (source, self._common, self._precision)
        return is_floating(found) and all(found.itemsize < one.itemsize for one in wide)

    def _check_biases(self) -> None:
        """Records kernels whose product gets the bias of another layer, where both layers have a kernel and a bias of these sizes."""
        keys = {(one.ref.file, one.name): one.key for one in self._content.weights}
        wrong = {one.name for one in self._wrong}
        for weight in self._content.weights:
            kernel = self._matched.get(weight.key, "")
            bias = self._matched.get(keys.get((weight.ref.file, weight.bias)), "")
            if weight.name not in wrong and self._source.are_of_two_layers(kernel, bias):
                problem = f"is used with the bias of another layer, {bias}"
                self._wrong.append(weight.unaccounted(problem, kernel))

    def _kernels_by_bias(self) -> dict[Hashable, list[str]]:
        """Returns the keys of weights that are added to products -> the names of the weights that are multiplied by."""
        keys = {(one.ref.file, one.name): one.key for one in self._content.weights}
        found: dict[Hashable, list[str]] = {}
        for one in self._content.weights:
            if (key := keys.get((one.ref.file, one.bias))) is not None:
                found.setdefault(key, []).append(one.name)
        return found

    def _judge_bias(self, weight: ProgramWeight) -> UnaccountedWeight | None:
        """Returns what is wrong with a weight that is added where the source's layers add a bias; None if that is not known."""
        for kernel, bias in self._biases_of_kernels(weight) or ():
            return weight.unaccounted(
                f"is added to the product of {kernel}, but not made of {bias}"
            )
        return None

    def _biases_of_kernels(self, weight: ProgramWeight) -> list[tuple[str, str]] | None:
        """Returns the source's biases of the layers to whose products a weight is added, each after its kernel; None if no layer is known."""
        kernels = self._kernels.get(weight.key, [])
        made = [
            (one.name, source)
            for one in (*self._traced, *self._explained)
            if one.name in kernels
            for source in one.sources
        ]
        biases = [(kernel, f"{layer_of(source)}.bias") for kernel, source in made]
        return [one for one in biases if one[1] in self._source.refs] if made else None

    def _search_opaque_files(self) -> None:
        """Finds tensors that are constants of a file that is not read as tensors, by their bytes."""
        for path in self._content.opaque:
            with (
                open(path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                for name in self._unused():
                    wanted = self._source.cast(name, self._common)
                    if data.find(wanted.tobytes()) >= 0:
                        self._used.add(name)
                        sizes = self._source.refs[name].shape
                        constant = AuditedWeight(path.name, wanted.dtype.name, sizes, (name,))
                        self._traced.append(constant)

    def _explain(self, weight: ProgramWeight, *, tables: bool) -> bool:
        """Records a weight that is made of the source, or a table that is computed; returns whether it is."""
        found = weight.ref.read()
        if weight.quantization is not None and found.dtype.kind in "iu":
            return self._explain_quantized(weight, found)
        if self._is_mostly_known(weight, found):
            return False
        explanation = self._explanation(weight, found, tables=tables)
        if explanation is None:
            return False
        self._used.update(explanation.sources)
        if explanation.sources:
            self._look_for_nan(weight, found)
        self._explained.append(weight.audited(explanation.sources, explanation.how))
        return True

    def _is_mostly_known(self, weight: ProgramWeight, found: Array) -> bool:
        """Whether a weight is for the most part a tensor that is missing or has its name: nothing else explains it then."""
        named = self._names.find(weight.name, weight.module)
        if not named or not self._source.fits(named, found) or found.size <= MAX_SMALL:
            return False
        neighbour = find_neighbour(found, [named], self._source)
        return neighbour is not None and neighbour.equal > _MOSTLY

    def _explanation(
        self, weight: ProgramWeight, found: Array, *, tables: bool
    ) -> Explanation | None:
        floating = is_floating(found.dtype)
        table = describe_table(found) if found.size > MAX_SMALL else ""
        if tables or table:
            is_free = table and not (is_fill(table) and self._may_stand_for_a_tensor(weight, found))
            return Explanation((), table) if tables and is_free else None
        if not floating or found.size < 2:
            return None
        if (
            found.size > MAX_SMALL
            and (made := self._finder(found.dtype).explain(found)) is not None
        ):
            return made
        return self._folds.explain(found)

    def _explain_quantized(self, weight: ProgramWeight, found: Array) -> bool:
        quantization = weight.quantization
        if quantization is None or quantization.scale is None or found.size <= MAX_SMALL:
            return False
        match = self._quantized.match(found, quantization)
        how = f"quantized to {found.dtype.name} with its scale"
        if match is not None and not match.wrong.any():
            self._used.add(match.name)
            self._explained.append(weight.audited((match.name,), how))
            return True
        step = float(np.abs(quantization.scale).max())
        made = self._folds.explain(quantization.dequantize(found), step)
        if made is not None:
            self._used.update(made.sources)
            self._explained.append(weight.audited(made.sources, f"{made.how}, {how}"))
            return True
        if match is None:
            return False
        self._used.add(match.name)
        wanted = self._source.cast(match.name, match.values.dtype)
        own = np.where(match.wrong, match.values, wanted)
        self._wrong.append(weight.unaccounted(describe_difference(own, wanted), match.name))
        return True

    def _suspect(self, weight: ProgramWeight) -> None:
        """Records a weight that nothing explains."""
        found = weight.ref.read()
        named = self._names.find(weight.name, weight.module)
        wrong = judge_suspect(
            weight, found, named, self._missing_tensors(), self._source, self._finder(found.dtype)
        )
        if wrong is None and is_floating(found.dtype):
            wrong = self._judge_bias(weight)
        if wrong is not None:
            self._used.add(wrong.nearest)
            self._wrong.append(wrong)
        elif found.size <= MAX_SMALL or not is_floating(found.dtype):
            self._small += 1
            return
        else:
            self._unknown.append(weight.unaccounted("is like no tensor of the source"))
        self._look_for_nan(weight, found)

    def _finder(self, dtype: DType) -> PieceFinder:
        return self._pieces.setdefault(dtype.name, PieceFinder(self._source, dtype))

    def _look_for_nan(self, weight: ProgramWeight, found: Array) -> None:
        broken = find_non_finite("program", weight.name, found)
        if broken is not None:
            self._non_finite.append(broken)

    def _may_stand_for_a_tensor(self, weight: ProgramWeight, found: Array) -> bool:
        """Whether a tensor of this size is missing, although its module is there: a bias that was zeroed, and not one that is not needed."""
        if weight.role is WeightRole.LITERAL or not is_floating(found.dtype):
            return False
        named = self._names.find(weight.name, weight.module)
        if named and self._source.fits(named, found):
            return True
        unused = set(self._unused())
        biases = self._biases_of_kernels(weight)
        if (
            biases is not None and not found.any()
        ):  # a converter adds zeros where it adds the bias later
            return any(bias in unused for _, bias in biases)
        same_size = self._source.of_size(found.size, found.dtype)
        return any(name in unused and not self._is_module_missing(name) for name in same_size)

    def _is_module_missing(self, name: str) -> bool:
        """Whether all tensors of a tensor's module are missing: it is not needed."""
        siblings = self._source.siblings(name)
        return bool(siblings) and not self._used.intersection(siblings)

    def _missing_tensors(self) -> list[str]:
        """Returns the tensors that are missing, those first whose module is there."""
        return sorted(self._unused(), key=self._is_module_missing)

    def _unused(self) -> list[str]:
        """Returns the tensors of numbers that were not found so far; ones equal to a tensor that was found count as found."""
        return [
            name
            for name, ref in self._source.refs.items()
            if name not in self._used
            and ref.size > 1
            and is_floating(ref.dtype)
            and not self._has_used_twin(name)
        ]

    def _matters(self, name: str) -> bool:
        """Whether a program needs a tensor: not a bias of zeros, which exporters leave out."""
        return not name.endswith("bias") or bool(self._source.read(name).any())

    def _has_used_twin(self, name: str) -> bool:
        ref = self._source.refs[name]
        own = self._source.read(name)
        for twin in self._source.with_sum(ref.size, bit_sum(own), ref.dtype):
            is_used = twin in self._used
            if is_used and find_arrangement(self._source.cast(twin, ref.dtype), own) is not None:
                self._used.add(name)
                return True
        return False


def _common_dtype(weights: Iterable[ProgramWeight]) -> DType:
    """Returns the floating-point dtype of most elements; float32 if there are none."""
    counts: Counter[str] = Counter()
    for weight in weights:
        if is_floating(weight.ref.dtype):
            counts[weight.ref.dtype.name] += weight.ref.size
    return DTYPES[counts.most_common(1)[0][0]] if counts else DTYPES["float32"]
