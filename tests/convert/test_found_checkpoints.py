"""Checkpoints in the wild: prefixes of wrappers, names of early releases, tensors that old files lack."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import CheckpointError, CoverageError
from equipoise.convert.diff import compare_checkpoints
from equipoise.fixtures.synthetic import expand_class, make_tensors

SIZES = {
    "vocab_size": 19,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 11,
}
CLASS = "BertForSequenceClassification"
TENSORS = make_tensors(expand_class("bert", CLASS, SIZES))
SEGMENTS = "bert.embeddings.token_type_embeddings.weight"
Arrays = Mapping[str, np.ndarray]  # type: ignore[type-arg]


def stored(folder: Path, tensors: Arrays, **config: Any) -> Path:
    folder.mkdir()
    values = {"model_type": "bert", "architectures": [CLASS], **SIZES, **config}
    (folder / "config.json").write_text(json.dumps(values))
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
    return folder


def named(change: Callable[[str], str]) -> Arrays:
    return {change(name): value for name, value in TENSORS.items()}


def old_norms(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")


def assert_same(folder: Path, expected: Arrays = TENSORS) -> None:
    found = load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("change", "note_part"),
    [
        (
            lambda name: f"module.{name}",
            "the prefix of a wrapper is removed from 41 names: 'module.",
        ),
        (
            lambda name: f"_orig_mod.{name}",
            "the prefix of a wrapper is removed from 41 names: '_orig_mod.",
        ),
        (lambda name: f"module._orig_mod.{name}", "41 names: 'module._orig_mod."),
        (
            lambda name: name.replace("bert.", "bert._orig_mod."),
            "39 names: 'bert._orig_mod.",
        ),
        (
            lambda name: name.replace(
                "layer.", "layer._fsdp_wrapped_module._checkpoint_wrapped_module."
            ),
            "the prefix of a wrapper is removed from 32 names: 'bert.encoder.layer._fsdp_wrapped_module.",
        ),
        (old_norms, "10 names are spelled differently: 'bert."),
    ],
    ids=["data parallel", "compiled", "both", "compiled within", "fsdp", "gamma and beta"],
)
def test_names_of_pytorch(change: Callable[[str], str], note_part: str, tmp_path: Path) -> None:
    source = stored(tmp_path / "source", named(change))
    manifest = convert(source, tmp_path / "flax", to="flax")
    assert any(note_part in note for note in manifest.values["notes"]), manifest.values["notes"]
    convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / "back")


def test_a_wrapper_that_makes_two_names_one_is_refused(tmp_path: Path) -> None:
    name = "classifier.bias"
    source = stored(tmp_path / "source", {**TENSORS, f"module.{name}": TENSORS[name]})
    with pytest.raises(Exception, match=r"two tensors have the name 'classifier\.bias'"):
        convert(source, tmp_path / "flax", to="flax")


@pytest.mark.parametrize(
    "names",
    [
        ("module.w", "w"),
        ("_orig_mod.w", "w"),
        ("module.w", "_orig_mod.w"),
        ("a._orig_mod.w", "a.w"),
    ],
)
@pytest.mark.parametrize("to", ["pytorch-bin", "pytorch-safetensors"])
def test_no_tensor_is_lost_to_a_wrapper(names: tuple[str, str], to: str, tmp_path: Path) -> None:
    """Of an unknown model too: both would have one name, and the last would win."""
    arrays = {name: np.full(3, index, np.float32) for index, name in enumerate(names)}
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"two tensors have the name '(a\.)?w'"):
        convert(tmp_path / "model.safetensors", tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="two tensors have the name"):
        compare_checkpoints(*[open_checkpoint(tmp_path / "model.safetensors")] * 2)


def test_two_whole_models_in_one_file(tmp_path: Path) -> None:
    """41 plain names and 41 with a prefix: one of the two models is chosen, or nothing is written."""
    other = {f"module.{name}": value + 1 for name, value in TENSORS.items()}
    source = stored(tmp_path / "source", {**TENSORS, **other})
    with pytest.raises(CheckpointError, match="two tensors have the name") as refused:
        convert(source, tmp_path / "out", to="pytorch-bin")
    assert refused.value.hint == "take one of the two models with --subtree module"
    convert(source, tmp_path / "out", to="pytorch", subtree="module")
    found = load_file(tmp_path / "out" / "model.safetensors")
    np.testing.assert_array_equal(found["classifier.bias"], TENSORS["classifier.bias"] + 1)


@pytest.mark.parametrize("name", ["empty.bin", "empty.safetensors", "empty.msgpack"])
def test_a_file_without_tensors_is_refused(name: str, tmp_path: Path) -> None:
    import torch

    file = tmp_path / name
    if name.endswith("bin"):
        torch.save({}, file)
    elif name.endswith("msgpack"):
        file.write_bytes(b"\x80")
    else:
        save_file({}, file)
    to = "flax-safetensors" if name.endswith("msgpack") else "pytorch-bin"
    with pytest.raises(CheckpointError, match="holds no tensors"):
        convert(file, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()


def test_a_config_without_architectures(tmp_path: Path) -> None:
    source = stored(tmp_path / "source", TENSORS, architectures=None)
    convert(source, tmp_path / "tf", to="tensorflow")
    convert(tmp_path / "tf", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / "back")


@pytest.mark.parametrize("to", ["tensorflow", "flax"])
def test_no_segments(to: str, tmp_path: Path) -> None:
    """Token types that an old file lacks become zeros; the manifest records it."""
    left = {name: value for name, value in TENSORS.items() if name != SEGMENTS}
    manifest = convert(stored(tmp_path / "source", left), tmp_path / "made", to=to)
    (note,) = manifest.values["notes"]
    assert "token_type_embeddings" in note
    assert "is not in the source and is zeros" in note
    assert list(manifest.values["computed"]) or manifest.values["computed"]
    convert(tmp_path / "made", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / "back", {**TENSORS, SEGMENTS: np.zeros_like(TENSORS[SEGMENTS])})


def test_nothing_else_may_be_missing(tmp_path: Path) -> None:
    left = {name: value for name, value in TENSORS.items() if "position_embeddings" not in name}
    with pytest.raises(CoverageError, match=r"position_embeddings\.weight' .* is missing"):
        convert(stored(tmp_path / "source", left), tmp_path / "made", to="flax")


def rewritten(folder: Path, rename: Callable[[str], str], leave: str = "?") -> None:
    """Rewrites an HDF5 file with other names, without some tensors, and with an optimizer's state."""
    path = folder / "tf_model.h5"
    with h5py.File(path) as old, h5py.File(folder / "new.h5", "w") as new:
        new.attrs.update(old.attrs)
        for group in old:
            new_group = new.create_group(group)
            names = [name for name in old[group].attrs["weight_names"] if leave not in str(name)]
            texts = [name.decode() if isinstance(name, bytes) else name for name in names]
            for name in texts:
                new_group.create_dataset(rename(name), data=old[group][name][()])
            new_group.attrs["weight_names"] = [rename(name).encode() for name in texts]
        state = new.create_group("optimizer_weights")
        state.create_dataset("Adam/iter:0", data=np.int64(3))
        state.attrs["weight_names"] = [b"Adam/iter:0"]
    (folder / "new.h5").replace(path)
    (folder / "equipoise.json").unlink()


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: "tf_bert_for_sequence_classification/" + name.partition("/")[2],
        lambda name: "tf_bert_for_sequence_classification_1/" + name.partition("/")[2],
        lambda name: name.replace("embeddings/weight:0", "embeddings/embeddings:0"),
    ],
    ids=["class", "second model", "other leaf"],
)
def test_names_of_tensorflow(rename: Callable[[str], str], tmp_path: Path) -> None:
    convert(stored(tmp_path / "source", TENSORS), tmp_path / "tf", to="tensorflow")
    rewritten(tmp_path / "tf", rename)
    convert(tmp_path / "tf", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / "back")


def test_no_segments_in_tensorflow(tmp_path: Path) -> None:
    convert(stored(tmp_path / "source", TENSORS), tmp_path / "tf", to="tensorflow")
    rewritten(tmp_path / "tf", str, leave="token_type")
    convert(tmp_path / "tf", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / "back", {**TENSORS, SEGMENTS: np.zeros_like(TENSORS[SEGMENTS])})


def test_trees_of_flax_init(tmp_path: Path) -> None:
    """``{"params": ...}``, as ``model.init`` returns and people save it."""
    convert(stored(tmp_path / "source", TENSORS), tmp_path / "flax", to="flax")
    path = tmp_path / "flax" / "flax_model.msgpack"
    path.write_bytes(b"\x81" + msgpack.packb("params") + path.read_bytes())
    (tmp_path / "flax" / "equipoise.json").unlink()
    manifest = convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    assert any("'params/bert/" in note for note in manifest.values["notes"])
    assert_same(tmp_path / "back")
