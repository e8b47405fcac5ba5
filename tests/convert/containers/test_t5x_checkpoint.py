"""Checkpoints of T5X: what tensorstore and Flax wrote is read; what points elsewhere or is incomplete is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("tensorstore")
serialization = pytest.importorskip("flax.serialization")

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.core.errors import CheckpointError, ContainerError, InputError
from equipoise.fixtures.t5x_checkpoints import write_t5x

RANDOM = np.random.default_rng(5)
TARGET = {
    "token_embedder/embedding": RANDOM.normal(size=(13, 6)).astype(np.float32),
    "encoder/layers_0/mlp/wo/kernel": RANDOM.normal(size=(7, 6)).astype(ml_dtypes.bfloat16),
    "encoder/layers_0/pre_mlp_layer_norm/scale": RANDOM.normal(size=6).astype(np.float32),
    "encoder/relpos_bias/rel_embedding": RANDOM.normal(size=(3, 8)).astype(np.float16),
}
SMALL = frozenset({"encoder/layers_0/pre_mlp_layer_norm/scale"})
WO = "target.encoder.layers_0.mlp.wo.kernel"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Returns a checkpoint with compressed chunks and an optimizer's state."""
    write_t5x(tmp_path / "checkpoint_7", TARGET, small=SMALL)
    return tmp_path / "checkpoint_7"


@pytest.mark.parametrize("compressor", [{"id": "gzip"}, None])
@pytest.mark.parametrize("state", [True, False])
def test_the_parameters_are_read(
    compressor: dict[str, Any] | None, state: bool, tmp_path: Path
) -> None:
    write_t5x(tmp_path, TARGET, small=SMALL, compressor=compressor, state=state)
    container = open_container(tmp_path / "checkpoint")
    assert container.format == "t5x_checkpoint"
    assert {name.removeprefix("target/") for name in container.tensors} == TARGET.keys()
    for name, value in TARGET.items():
        ref = container.tensors[f"target/{name}"]
        assert (ref.dtype, ref.shape) == (value.dtype, value.shape), name
        assert ref.read().tobytes() == value.tobytes(), name
        assert b"".join(bytes(block) for block in ref.blocks()) == value.tobytes(), name
    assert set(container.left_out.values()) == ({"state of the training"} if state else set())
    assert len(container.left_out) == (5 if state else 0)
    parts = {path.relative_to(tmp_path).parts[0] for path in container.files}
    assert len(parts) == 3
    assert all(part.startswith("target.") for part in parts)


def test_the_only_step_is_read_and_several_are_listed(stored: Path) -> None:
    checkpoint = open_checkpoint(stored.parent)
    assert "the folder checkpoint_7 was read" in checkpoint.oddities
    assert checkpoint.prefix == "target/"
    shutil.copytree(stored, stored.with_name("checkpoint_10"))
    with pytest.raises(
        CheckpointError, match=r"(?s)2 T5X checkpoints.*checkpoint_7, checkpoint_10"
    ):
        open_checkpoint(stored.parent)


def test_files_are_named_below_their_folder(stored: Path, cli: Callable[..., Any]) -> None:
    found = json.loads(cli("inspect", stored, "--json").out)
    names = {one["name"] for one in found["files"]}
    assert {"checkpoint", f"{WO}/.zarray"} <= names
    assert len(names) == len(found["files"])


def test_an_unfinished_save_is_named(stored: Path) -> None:
    stored.rename(stored.with_name("checkpoint_7.tmp-1234"))
    with pytest.raises(CheckpointError, match="saving was not finished"):
        open_checkpoint(stored.parent)


def test_the_file_alone_is_missing(stored: Path) -> None:
    (stored / "checkpoint").unlink()
    with pytest.raises(CheckpointError, match="a T5X checkpoint"):
        open_checkpoint(stored)


@pytest.mark.parametrize("name", ["0.0", "1.0", ".zarray"])
def test_a_missing_file_of_an_array_is_an_error(name: str, stored: Path) -> None:
    (stored / WO / name).unlink()
    with pytest.raises((ContainerError, CheckpointError)) as caught:
        open_checkpoint(stored)
    assert caught.value.tensor is not None
    assert "wo" in caught.value.tensor
    assert str(stored / "checkpoint") in str(caught.value)


def test_a_missing_array_is_an_error(stored: Path) -> None:
    shutil.rmtree(stored / WO)
    with pytest.raises(ContainerError, match=r"wo\.kernel.*does not exist"):
        open_checkpoint(stored)


def test_a_damaged_chunk_is_an_error(stored: Path) -> None:
    path = stored / WO / "1.0"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ContainerError, match=r"wo\.kernel"):
        open_checkpoint(stored)["target/encoder/layers_0/mlp/wo/kernel"].read()


def change(stored: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Changes the placeholder of one array."""
    path = stored / "checkpoint"
    tree = serialization.msgpack_restore(path.read_bytes())
    edit(tree["optimizer"]["target"]["encoder"]["layers_0"]["mlp"]["wo"]["kernel"])
    path.write_bytes(serialization.msgpack_serialize(tree))


@pytest.mark.parametrize(
    "path", ["../outside", "/etc", "..", ".", "", "a/../../outside", "a\0b", "a/b"]
)
def test_a_path_that_leads_elsewhere_is_refused(path: str, stored: Path) -> None:
    shutil.copytree(stored / WO, stored.parent / "outside")
    change(stored, lambda node: node["kvstore"].update(path=path))
    with pytest.raises(ContainerError, match="wo"):
        open_checkpoint(stored)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda node: node.update(driver="n5"), "no array of zarr"),
        (lambda node: node.update(kvstore={"driver": "file"}), "no array of zarr"),
        (lambda node: node["metadata"].update(shape=[6, 7]), "another shape"),
        (lambda node: node["metadata"].update(shape="big"), "another shape"),
        (
            lambda node: node["kvstore"].update(path="target.token_embedder.embedding"),
            "two placeholders name one array",
        ),
    ],
)
def test_a_wrong_placeholder_is_refused(
    edit: Callable[[dict[str, Any]], None], message: str, stored: Path
) -> None:
    change(stored, edit)
    with pytest.raises(ContainerError, match=message):
        open_checkpoint(stored)


def test_paths_of_old_releases_are_read(stored: Path) -> None:
    """Before 0.1.14 tensorstore wrote the path beside the store; a bucket of the cloud may stand there too."""

    def edit(node: dict[str, Any]) -> None:
        node["path"] = node["kvstore"].pop("path")
        node["kvstore"].update(driver="gcs", bucket="t5x-dummy-bucket")

    change(stored, edit)
    assert len(open_checkpoint(stored)) == len(TARGET)


def test_a_link_out_of_the_folder_is_refused(stored: Path) -> None:
    path = stored / WO / "1.0"
    other = stored.parent / "elsewhere"
    other.write_bytes(path.read_bytes())
    path.unlink()
    os.symlink(other, path)
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        open_checkpoint(stored)


def test_bfloat16_of_version_2_is_refused(tmp_path: Path) -> None:
    write_t5x(tmp_path, {"w": np.ones((3, 2), np.uint16)})
    with pytest.raises(ContainerError, match="bfloat16 stored as uint16"):
        open_container(tmp_path / "checkpoint")


def test_a_chunk_far_larger_than_the_files_is_refused(stored: Path) -> None:
    path = stored / WO / ".zarray"
    array = json.loads(path.read_text())
    array["shape"] = array["chunks"] = [1 << 20, 1 << 20]
    path.write_text(json.dumps(array))
    with pytest.raises(ContainerError, match="too large for the bytes that are stored"):
        open_checkpoint(stored)


def test_without_tensorstore_the_extra_is_named(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(InputError, match=r"equipoise\[orbax\]"):
        open_checkpoint(stored)


def test_a_tree_of_flax_in_a_file_of_that_name(tmp_path: Path) -> None:
    tree = {"params": {"dense": {"kernel": np.ones((2, 3), np.float32)}}, "version": 1}
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    assert set(open_checkpoint(tmp_path / "checkpoint")) == {"params/dense/kernel"}
