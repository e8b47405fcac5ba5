"""Weights of Keras 3: what Keras wrote is read in its place, what is written Keras loads, and no code of a model runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.containers import keras3
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.tensor import TensorHeader, array_blocks

GOLDEN = Path(__file__).parent / "golden" / "keras3"
EXPECTED = load_file(GOLDEN / "expected.safetensors")
FLOATS = {name: value for name, value in EXPECTED.items() if not name.startswith("bfloat16.")}
NARROW = {name.removeprefix("bfloat16."): EXPECTED[name] for name in EXPECTED.keys() - FLOATS}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.keras", FLOATS),
        ("model.weights.h5", FLOATS),
        ("shards.weights.json", FLOATS),
        ("bfloat16.weights.h5", NARROW),
    ],
)
def test_what_keras_wrote_is_read(name: str, expected: dict[str, Any]) -> None:
    container = open_container(GOLDEN / name)
    assert container.format == "keras3"
    assert container.tensors.keys() == expected.keys()
    for path, value in expected.items():
        ref = container.tensors[path]
        assert (ref.dtype, ref.shape) == (value.dtype, value.shape), path
        assert ref.extent is not None, "read in its place"
        assert ref.read().tobytes() == value.tobytes(), path


def test_what_is_no_weight_is_left_out(tmp_path: Path) -> None:
    """States of random generators, where a layer tracks one, are no weights either."""
    path = tmp_path / "model.weights.h5"
    shutil.copyfile(GOLDEN / "model.weights.h5", path)
    with h5py.File(path, "a") as file:
        file["layers/dropout/seed_generator/vars/0"] = np.ones(2, np.uint32)
    container = open_container(path)
    assert container.tensors.keys() == FLOATS.keys()
    assert container.left_out["optimizer/vars/0"] == "state of the optimizer"
    seed = container.left_out["layers/dropout/seed_generator/vars/0"]
    assert seed == "state of a random generator"


def test_the_commands_take_it(cli: Callable[..., Any]) -> None:
    assert "keras3, archive" in cli("inspect", GOLDEN / "model.keras").out
    assert cli("diff", GOLDEN / "model.keras", GOLDEN / "shards.weights.json").code == 0
    assert cli("diff", GOLDEN / "model.keras", GOLDEN / "bfloat16.weights.h5").code == 1


def write(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in tensors.items()]
    with keras3.Writer(path, headers, metadata) as writer:
        for name, value in tensors.items():
            writer.write(name, array_blocks(value))


def texts_of(archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name).decode() for name in ("config.json", "metadata.json")}


def test_an_archive_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "made.keras"
    write(path, FLOATS, texts_of(GOLDEN / "model.keras"))
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
    tensors = keras3.read(path).tensors
    assert all(tensors[name].read().tobytes() == FLOATS[name].tobytes() for name in FLOATS)
    with pytest.raises(ContainerError, match=r"(?s)needs the config.*\.weights\.h5"):
        write(tmp_path / "other.keras", FLOATS, {})


LOADER = """
import sys, keras, numpy as np
sys.path.insert(0, sys.argv[1])
from make_keras3_goldens import build
golden, made = sys.argv[2:]
expected = [np.asarray(one.value) for one in keras.models.load_model(golden + "/model.keras", safe_mode=False).weights]
model = keras.models.load_model(made + "/made.keras", safe_mode=False, compile=False)
assert all(np.array_equal(a.value, b) for a, b in zip(model.weights, expected))
model = build()
for one in model.weights: one.assign(np.zeros(one.shape))
model.load_weights(made + "/made.weights.h5")
assert all(np.array_equal(a.value, b) for a, b in zip(model.weights, expected))
model = build("bfloat16")
for one in model.weights: one.assign(np.zeros(one.shape))
model.load_weights(made + "/narrow.weights.h5")
assert all(np.asarray(one.value).any() for one in model.weights if "bias" not in one.path and "beta" not in one.path and "mean" not in one.path)
"""


@pytest.mark.slow
def test_keras_loads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    write(tmp_path / "made.keras", FLOATS, texts_of(GOLDEN / "model.keras"))
    write(tmp_path / "made.weights.h5", FLOATS, {})
    write(tmp_path / "narrow.weights.h5", NARROW, {})
    fixtures = Path(__file__).parents[3] / "fixtures"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADER, str(fixtures), str(GOLDEN), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "keras"))


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "shards_00001.weights.h5").unlink()
    with pytest.raises(CheckpointError, match=r"shards_00001\.weights\.h5: .*no such file"):
        open_container(folder / "shards.weights.json")


@pytest.mark.parametrize("name", ["../model.weights.h5", "/etc/passwd", ".."])
def test_shards_elsewhere_are_refused(name: str, folder: Path) -> None:
    (folder / "shards.weights.json").write_text(json.dumps({"weight_map": {"/vars": name}}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_container(folder / "shards.weights.json")


def test_links_in_the_file_are_refused(folder: Path) -> None:
    path = folder / "model.weights.h5"
    with h5py.File(path, "a") as file:
        file["layers/dense/vars/2"] = h5py.ExternalLink(folder / "bfloat16.weights.h5", "/vars")
    with pytest.raises(ContainerError, match="a soft or external link"):
        open_container(path)


def test_data_outside_the_file_is_refused(folder: Path) -> None:
    path = folder / "model.weights.h5"
    with h5py.File(path, "a") as file:
        place = [(str(folder / "model.keras"), 0, 400)]
        file.create_dataset("layers/dense/vars/2", (100,), "f4", external=place)
    with pytest.raises(ContainerError, match="not all in this file"):
        open_container(path)


def test_a_shape_beyond_the_archive_is_refused(folder: Path) -> None:
    """A dataset of the inner file must not reach into what follows it in the archive."""
    path = folder / "model.keras"
    content = path.read_bytes()
    start = content.index(b"\x89HDF")
    with zipfile.ZipFile(path) as file:
        size = file.getinfo("model.weights.h5").file_size
    inner = content[start : start + size - 600]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", inner)
        file.writestr("after", bytes(4000))
    with pytest.raises(ContainerError):
        open_container(path)


def test_a_compressed_archive_says_what_to_do(folder: Path) -> None:
    path = folder / "model.keras"
    inner = zipfile.ZipFile(GOLDEN / "model.keras").read("model.weights.h5")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", inner)
    with pytest.raises(ContainerError, match=r"(?s)compressed.*unpack the archive"):
        open_container(path)


def test_an_archive_without_weights_is_named(folder: Path) -> None:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.npz", b"x")
    with pytest.raises(ContainerError, match=r"(?s)no weights in HDF5.*model\.weights\.npz"):
        open_container(path)


def test_weights_of_keras_2_keep_their_reader(tmp_path: Path) -> None:
    """Keras 2 gives files the same ending: what is in them decides."""
    path = tmp_path / "model.weights.h5"
    shutil.copyfile(GOLDEN.parent / "keras_bert.h5", path)
    assert open_container(path).format == "keras_hdf5"
    assert np.dtype("f4") in {ref.dtype for ref in open_checkpoint(path).values()}
