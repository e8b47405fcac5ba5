"""Sources of a step are read into memory that is used again, and hashed on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from equipoise.convert.conversion.execute import SourceReader
from equipoise.convert.conversion.plan_types import Step
from equipoise.convert.conversion.transform import target_streams
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.ops import Permute
from equipoise.convert.core.rules import Namespace, Rule, StepRule
from equipoise.convert.core.tensor import BLOCK_BYTES, Extent, TensorHeader, TensorRef

RANDOM = np.random.default_rng(0)
ARRAYS: dict[str, Array] = {
    "odd": RANDOM.integers(0, 2, 3).astype(bool),
    "wide": RANDOM.standard_normal((3, BLOCK_BYTES // 16)).astype(np.float64),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.asarray(7, np.int64),
    "half": RANDOM.standard_normal((5, 7)).astype(np.float16),
}


def write_refs(path: Path) -> list[TensorRef]:
    """Writes the arrays one after another; the last one has no byte range."""
    refs, offset = [], 0
    for name, array in ARRAYS.items():
        extent = Extent(path, offset, array.nbytes)
        refs.append(TensorRef(name, array.dtype, array.shape, path, extent))
        offset += array.nbytes
    path.write_bytes(b"".join(array.tobytes() for array in ARRAYS.values()))
    last = ARRAYS["half"]
    refs[-1] = TensorRef("half", last.dtype, last.shape, path, load=lambda: last)
    return refs


def test_values_and_hashes(tmp_path: Path) -> None:
    refs = write_refs(tmp_path / "x")
    reader = SourceReader()
    for some in ([refs[0]], refs, refs[::-1], refs[1:3], []):
        arrays, hashes = reader.read(some)
        assert list(arrays) == [ref.name for ref in some]
        for ref in some:
            np.testing.assert_array_equal(arrays[ref.name], ARRAYS[ref.name])
            assert arrays[ref.name].flags.aligned
            assert hashes[ref.name] == blake3(ARRAYS[ref.name].tobytes()).hexdigest()


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5), (700, 900), (2, 400_000), (400_000, 2), (3, 1100, 90)]
)
def test_transposed_pieces(shape: tuple[int, ...]) -> None:
    """The pieces of a permuted tensor are its bytes in C order."""
    source = RANDOM.standard_normal(shape).astype(np.float32)
    axes = tuple(range(len(shape)))[::-1]
    rule = StepRule(Rule(("a",), ("b",), (Permute(axes),)), Namespace.SOURCE, Namespace.TARGET)
    header = TensorHeader("b", source.dtype, shape[::-1])
    step = Step(("a",), (rule,), ("a",), ("b",), (header,))
    ((found, pieces),) = target_streams(step, {"a": source})
    assert found is header
    assert b"".join(pieces) == np.ascontiguousarray(source.T).tobytes()
