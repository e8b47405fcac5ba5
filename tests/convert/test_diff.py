"""Comparing checkpoints: identical, equal after a cast, different and missing tensors."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.diff import (
    CheckpointComparison,
    TensorRelation,
    compare_checkpoints,
    equal_after_cast,
    measure_difference,
)
from equipoise.fixtures.synthetic import write_checkpoint, write_small_bert, write_tensors


def compared(a: Path, b: Path) -> CheckpointComparison:
    return compare_checkpoints(open_checkpoint(a), open_checkpoint(b))


def results(found: CheckpointComparison) -> dict[str, TensorRelation]:
    different = [one for one in found.tensors if one.relation is not TensorRelation.IDENTICAL]
    return {one.name: one.relation for one in different}


FORMATS = [
    *("tensorflow-h5", "tensorflow-safetensors", "flax-msgpack", "flax-safetensors"),
    *("pytorch-safetensors", "pytorch-bin"),
]


@pytest.mark.parametrize("to", FORMATS)
def test_a_conversion_is_identical_in_every_format(to: str, tmp_path: Path) -> None:
    source = write_small_bert(tmp_path / "a")
    convert(source, tmp_path / "b", to=to)
    found = compared(source, tmp_path / "b")
    assert found.by == "parameters"
    assert (found.same, len(found.tensors), results(found)) == (True, 44, {})


@pytest.mark.parametrize("to", ["tensorflow", "flax", "pytorch"])
def test_one_changed_number_is_named_and_measured(to: str, tmp_path: Path) -> None:
    source = write_small_bert(tmp_path / "a")
    convert(source, tmp_path / "b", to=to)
    tensors = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    tensors[name][3, 5] += np.float32(0.25)
    write_tensors(source / "model.safetensors", tensors)
    found = compared(source, tmp_path / "b")
    assert not found.same
    assert results(found) == {name: TensorRelation.DIFFERENT}
    far = next(one.distance for one in found.tensors if one.name == name)
    assert far is not None
    assert (far.elements, far.not_finite) == (1, 0)
    assert far.max_abs == pytest.approx(0.25, rel=1e-6)


def test_a_tie_that_is_stored_on_one_side_is_resolved(tmp_path: Path) -> None:
    source = write_small_bert(tmp_path / "a")
    convert(source, tmp_path / "b", to="flax")
    tensors = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    decoder = "cls.predictions.decoder.weight"
    tensors[decoder] = tensors["bert.embeddings.word_embeddings.weight"]
    write_tensors(source / "model.safetensors", tensors)
    assert results(compared(source, tmp_path / "b")) == {}
    tensors[decoder] = tensors[decoder] + np.float32(1)
    write_tensors(source / "model.safetensors", tensors)
    assert results(compared(source, tmp_path / "b")) == {decoder: TensorRelation.DIFFERENT}


def test_computed_tensors_are_generated(tmp_path: Path) -> None:
    config = {
        "vocab_size": 21,
        "d_model": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 10,
        "decoder_ffn_dim": 11,
        "max_position_embeddings": 12,
    }
    source = write_checkpoint(tmp_path / "a", "marian", "MarianMTModel", config)
    convert(source, tmp_path / "b", to="tensorflow")
    found = compared(source, tmp_path / "b")
    assert results(found) == {}
    assert found.same


def test_training_counters_are_not_compared(tmp_path: Path) -> None:
    config = {"num_channels": 3, "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]}
    source = write_checkpoint(tmp_path / "a", "resnet", "ResNetModel", config)
    tensors = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert counters
    for name in counters:
        tensors[name] = tensors[name] + 7
    write_tensors(source / "model.safetensors", tensors)
    convert(source, tmp_path / "b", to="flax")
    found = compared(source, tmp_path / "b")
    assert found.same
    assert len(found.not_compared) == len(counters)
    assert set(found.not_compared.values()) == {"a counter of PyTorch's training, in one file only"}


def test_extra_and_missing_tensors_are_reported_across_layouts(tmp_path: Path) -> None:
    source = write_small_bert(tmp_path / "a")
    convert(source, tmp_path / "b", to="flax")
    tensors = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    del tensors["cls.predictions.transform.dense.bias"]
    tensors["extra"] = np.ones(3, np.float32)
    write_tensors(source / "model.safetensors", tensors)
    assert results(compared(source, tmp_path / "b")) == {
        "cls.predictions.transform.dense.bias": TensorRelation.MISSING_A,
        "extra": TensorRelation.MISSING_B,
    }


def test_two_classes_of_one_architecture(tmp_path: Path) -> None:
    body, with_head = (
        write_small_bert(tmp_path / "a", "BertModel"),
        write_small_bert(tmp_path / "b"),
    )
    found = results(compared(body, with_head))
    assert found.pop("bert.pooler.dense.weight") is TensorRelation.MISSING_B
    assert found.pop("bert.pooler.dense.bias") is TensorRelation.MISSING_B
    assert set(found.values()) == {TensorRelation.MISSING_A}
    assert all(name.startswith("cls.predictions") for name in found)


def test_other_shapes_are_different_without_a_distance(tmp_path: Path) -> None:
    a = write_tensors(tmp_path / "a.safetensors", {"w": np.ones((2, 3), np.float32)})
    b = write_tensors(tmp_path / "b.safetensors", {"w": np.ones((3, 2), np.float32)})
    (one,) = compared(a, b).tensors
    assert (one.relation, one.distance) == (TensorRelation.DIFFERENT, None)


def test_layouts_need_an_architecture(tmp_path: Path) -> None:
    source = write_small_bert(tmp_path / "a")
    convert(source, tmp_path / "b", to="flax")
    for folder in (source, tmp_path / "b"):
        (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="layouts pytorch and flax cannot be compared"):
        compared(source, tmp_path / "b")
    config = {"model_type": "gpt2", "architectures": ["GPT2Model"]}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="none of the tensors belongs to the architecture"):
        compared(source, tmp_path / "b")


F32, F16, BF16 = np.float32, np.float16, ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (np.array([1.0, 1 / 3], F32), np.array([1.0, 1 / 3], F16), True),
        (np.array([1.0, 1 / 3], F16), np.array([1.0, 1 / 3], F32), True),
        (np.array([1.0, 1 / 3], F32), np.array([1.0, 0.3333], F32).astype(BF16), True),
        (np.array([1 / 3], F32), np.array([0.25], BF16), False),
        (np.array([0.5], F16), np.array([0.5], BF16), True),
        (np.array([1e30], F32), np.array([np.inf], F16), True),
        (np.array([2.0], np.float64), np.array([2], np.int32), True),
        (np.array([2**40], np.int64), np.array([0], np.int32), False),
        (np.array([3], np.int64), np.array([3], np.uint8), True),
        (np.array([0.0], F32), np.array([-0.0], F16), False),
        (np.array([True]), np.array([1], np.int8), True),
    ],
)
def test_equal_after_cast(a: Any, b: Any, equal: bool) -> None:
    assert equal_after_cast(a, b) is equal
    assert equal_after_cast(b, a) is equal


def test_a_distance_counts_bits_and_measures_what_is_finite() -> None:
    a = np.array([1, 2, np.nan, np.inf, 0.0, 4], np.float32)
    b = np.array([1, 3, np.nan, 5, -0.0, 4], np.float32)
    far = measure_difference(a, b)
    assert (far.elements, far.not_finite) == (3, 1)
    assert far.max_abs == 1.0
    assert far.max_rel == pytest.approx(1 / 3)


def test_a_distance_between_dtypes_and_of_complex_numbers() -> None:
    far = measure_difference(np.array([1.0, 2.0], np.float32), np.array([1.0, 2.5], BF16))
    assert (far.elements, far.max_abs, far.max_rel) == (1, 0.5, 0.2)
    far = measure_difference(np.array([3 + 4j], np.complex64), np.array([0], np.complex64))
    assert (far.elements, far.max_abs, far.max_rel) == (1, 5.0, 1.0)


def test_memory_stays_near_two_tensors(tmp_path: Path) -> None:
    # 8 tensors of 8 MB; two of them and the pieces of a difference take 48 MB.
    tensors = {f"t{i}": np.full((2 << 20,), i, np.float32) for i in range(8)}
    a = write_tensors(tmp_path / "a.safetensors", tensors)
    b = write_tensors(tmp_path / "b.safetensors", {n: t + F32(1) for n, t in tensors.items()})
    del tensors
    tracemalloc.start()
    found = compared(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.count(TensorRelation.DIFFERENT) == 8
    assert peak < 90 << 20
