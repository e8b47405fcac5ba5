"""Weights that each method's own library quantized are the floats that it dequantizes them to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from equipoise.convert.containers import safetensors
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.tensor import DTYPES, TensorRef
from equipoise.convert.quantized.dequantize import find_quantized_weights
from equipoise.convert.quantized.weights import plain_ref

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
ROUNDED_OTHERWISE = {"int8": 2e-7}
"""LLM.int8 multiplies by a rounded 1 / 127 in float32; the relative error of that is allowed."""


def load(name: str) -> tuple[dict[str, TensorRef], dict[str, Any]]:
    path = GOLDEN / f"{name}.safetensors"
    tensors = dict(safetensors.read(path).tensors)
    with safe_open(path, "np") as file:
        settings = json.loads(file.metadata()["settings"])
    return tensors, settings


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_library(name: str) -> None:
    tensors, settings = load(name)
    expected = tensors.pop("expected")
    (weight,) = find_quantized_weights(tensors, settings)
    assert weight.name == "model.fc.weight"
    assert weight.parts.keys() == tensors.keys()
    found = plain_ref(weight, expected.dtype)
    assert found.shape == expected.shape
    values, wanted = found.read(), expected.read()
    np.testing.assert_allclose(
        values.astype(np.float64), wanted.astype(np.float64), rtol=ROUNDED_OTHERWISE.get(name, 0)
    )
    assert b"".join(found.blocks()) == values.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_computed_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, settings = load(name)
    del tensors["expected"]
    (weight,) = find_quantized_weights(tensors, settings)
    whole = plain_ref(weight, DTYPES["float32"]).read()
    monkeypatch.setattr("equipoise.convert.core.rounding.BLOCK_ELEMENTS", 3 * weight.shape[1])
    assert plain_ref(weight, DTYPES["float32"]).read().tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_misshapen_part_is_refused(name: str) -> None:
    tensors, settings = load(name)
    del tensors["expected"]
    for part, ref in tensors.items():
        if "quant_state" in part or part.endswith("weight_format"):
            continue  # read as text, or not read at all
        wrong = TensorRef(part, ref.dtype, (*ref.shape, 2, 2), ref.file, load=ref.read)
        with pytest.raises(CheckpointError):
            read_all({**tensors, part: wrong}, settings)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("nf4-nested", part) for part in ("absmax", "nested_absmax", "quant_map")),
        *(("gptq-4", part) for part in ("qzeros", "scales")),
        *(("awq", part) for part in ("qzeros", "scales")),
        *(("packed-4-group", part) for part in ("weight_scale", "weight_shape")),
    ],
)
def test_a_missing_part_is_refused(name: str, part: str) -> None:
    tensors, settings = load(name)
    del tensors["expected"]
    kept = {one: ref for one, ref in tensors.items() if not one.endswith(f".{part}")}
    assert len(kept) == len(tensors) - 1
    with pytest.raises(CheckpointError, match="lacks"):
        read_all(kept, settings)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"[]",
        b'{"blocksize": 0, "shape": [2, 2]}',
        b'{"blocksize": 64, "shape": [-2, 2]}',
        b"{",
    ],
)
def test_a_damaged_state_is_refused(state: bytes) -> None:
    tensors, settings = load("nf4")
    name = next(name for name in tensors if "quant_state" in name)
    data = np.frombuffer(state, np.uint8)
    ref = TensorRef(name, data.dtype, data.shape, GOLDEN, load=lambda: data)
    with pytest.raises(CheckpointError, match="the state of a quantized weight is damaged"):
        read_all({**tensors, name: ref}, settings)


def read_all(tensors: dict[str, TensorRef], settings: dict[str, Any]) -> None:
    for weight in find_quantized_weights(tensors, settings):
        plain_ref(weight, DTYPES["float32"]).read()
