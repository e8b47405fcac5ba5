"""Orbax checkpoints: what Orbax writes is read, what is written Orbax restores."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("tensorstore")

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.containers import orbax
from equipoise.convert.containers._orbax import writer as orbax_writer
from equipoise.convert.core.errors import CheckpointError, ContainerError, InputError
from equipoise.convert.core.tensor import TensorHeader, array_blocks
from equipoise.convert.verify import verify
from equipoise.exporters.weight_layout import nest_paths
from equipoise.fixtures.synthetic import BERT_CONFIG, expand_class, make_tensors, write_small_bert

GOLDEN = Path(__file__).parent / "golden" / "orbax"
LEFT_OUT = {"name": "string, not an array", "none": "None, not an array"}


@pytest.mark.parametrize("name", ["ocdbt", "zarr", "zarr3"])
def test_what_orbax_wrote_is_read(name: str) -> None:
    """Arrays that were sharded over four devices, with scalars and leaves that are none."""
    container = open_container(GOLDEN / name / "_METADATA")
    expected = load_file(GOLDEN / name / "expected.safetensors")
    assert container.tensors.keys() == expected.keys()
    assert container.left_out == LEFT_OUT
    for key, value in expected.items():
        ref = container.tensors[key]
        assert (ref.dtype, ref.shape) == (value.dtype, value.shape), key
        assert ref.read().tobytes() == value.tobytes(), key
        assert b"".join(bytes(block) for block in ref.blocks()) == value.tobytes(), key


def test_the_weights_of_a_train_state_are_found() -> None:
    checkpoint = open_checkpoint(GOLDEN / "ocdbt")
    assert checkpoint.layout == "flax"
    assert checkpoint.left_out["opt_state/mu"] == "state of the optimizer"
    assert checkpoint.left_out["step"] == "counter of the training"
    assert {name.partition("/")[0] for name in checkpoint} == {"params"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a small BERT in PyTorch's layout, and converted to ``msgpack`` and ``orbax`` of Flax."""
    folder = tmp_path_factory.mktemp("bert")
    write_small_bert(folder / "source")
    convert(folder / "source", folder / "msgpack", to="flax")
    convert(folder / "source", folder / "orbax", to="flax-orbax")
    return folder


def test_a_model_goes_there_and_back(bert: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    assert verify(bert / "orbax", source=bert / "source").findings == ()
    manifest = convert(bert / "orbax", tmp_path / "back", to="pytorch")
    assert len(manifest.values["source"]["files"]) == 4
    back, source = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "back", bert / "source")
    )
    assert back.keys() <= source.keys()
    assert all(np.array_equal(value, source[name]) for name, value in back.items())
    assert cli("diff", bert / "source", bert / "orbax").code == 0


def test_a_changed_file_is_found(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert / "orbax", tmp_path / "orbax"))
    data = next((folder / "orbax_checkpoint" / "d").iterdir())
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    (folder / "orbax_checkpoint" / "extra").write_bytes(b"")
    findings = {(one.problem, one.file) for one in verify(folder).findings}
    assert ("the file has changed", f"orbax_checkpoint/d/{data.name}") in findings
    assert ("the manifest does not list this file", "orbax_checkpoint/extra") in findings


def test_only_its_own_folder_is_replaced(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert / "orbax", tmp_path / "orbax"))
    convert(bert / "source", folder, to="flax-orbax", force=True)
    (folder / "orbax_checkpoint" / "d" / "mine").write_bytes(b"x")
    with pytest.raises(InputError, match="did not make"):
        convert(bert / "source", folder, to="flax-orbax", force=True)


@pytest.mark.slow
def test_orbax_restores_what_is_written(bert: Path) -> None:
    import jax
    import orbax.checkpoint as ocp

    place = (bert / "orbax" / "orbax_checkpoint").resolve()
    stored = open_checkpoint(bert / "msgpack")
    expected = nest_paths({name: ref.read() for name, ref in stored.items()})
    with ocp.StandardCheckpointer() as reader:
        restored = reader.restore(place)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=device), expected
        )
        on_device = reader.restore(place, target)
    with ocp.PyTreeCheckpointer() as reader:
        again = reader.restore(place)
    for tree in (restored, on_device, again):
        assert jax.tree.structure(tree) == jax.tree.structure(expected)
        same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), b), tree, expected)
        assert all(jax.tree.leaves(same))


@pytest.mark.slow
def test_linen_train_states_and_nnx_states_convert(tmp_path: Path) -> None:
    """A TrainState in a CheckpointManager, and the state of an NNX module: both give the same PyTorch weights."""
    import optax
    import orbax.checkpoint as ocp
    from flax import nnx
    from flax.training.train_state import TrainState

    name = "BertForSequenceClassification"
    tensors = make_tensors(expand_class("bert", name, BERT_CONFIG))
    values = {"model_type": "bert", "architectures": [name], **BERT_CONFIG}
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(values))
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    convert(source, tmp_path / "flax", to="flax")
    tree = nest_paths({one: ref.read() for one, ref in open_checkpoint(tmp_path / "flax").items()})

    state = TrainState.create(apply_fn=len, params=tree, tx=optax.adam(0.1))
    linen = tmp_path / "linen"
    with ocp.CheckpointManager(linen) as manager:
        manager.save(3, args=ocp.args.StandardSave(state))
    variables = nest_paths(
        {one: nnx.Param(ref.read()) for one, ref in open_checkpoint(tmp_path / "flax").items()}
    )
    variables["dropout"] = {"rngs": nnx.state(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))["rngs"]}
    module = tmp_path / "nnx"
    with ocp.StandardCheckpointer() as writer:
        writer.save(module, nnx.State(variables))
    for folder in (linen, module):
        convert(
            folder, tmp_path / f"{folder.name}-out", to="pytorch", config=source / "config.json"
        )
        found = load_file(tmp_path / f"{folder.name}-out" / "model.safetensors")
        assert found.keys() == tensors.keys()
        assert all(np.array_equal(found[one], value) for one, value in tensors.items())


def write(path: Path, tensors: dict[str, Any]) -> None:
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in tensors.items()]
    with orbax.Writer(path, headers, {}) as writer:
        for name, value in tensors.items():
            writer.write(name, array_blocks(value))


@pytest.mark.parametrize(
    "shape", [(7, 5), (1, 40), (2, 3, 11), (40,), (), (3, 1, 30)], ids=lambda shape: str(shape)
)
def test_large_arrays_are_cut_into_chunks(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orbax_writer, "CHUNK_BYTES", 64)
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    write(tmp_path / "_METADATA", {"a/b": array, "c": np.ones(3, np.int8)})
    ref = orbax.read(tmp_path / "_METADATA").tensors["a/b"]
    assert np.array_equal(ref.read(), array)
    assert b"".join(bytes(block) for block in ref.blocks()) == array.tobytes()


def test_names_that_are_no_tree_are_refused(tmp_path: Path) -> None:
    for names in (("a", "a/b"), ("a//b",), ("a.b", "a/b")):
        with pytest.raises(ContainerError, match="no tree"):
            write(tmp_path / "_METADATA", {name: np.ones(2) for name in names})


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(GOLDEN / "zarr", tmp_path / "stored"))
    (folder / "expected.safetensors").unlink()
    return folder


def test_a_missing_chunk_is_no_zero(stored: Path) -> None:
    (stored / "params.dense.kernel" / "1.0").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)params/dense/kernel.*chunks.*4 chunks.*3"):
        open_checkpoint(stored)


def test_a_missing_array_is_named(stored: Path) -> None:
    shutil.rmtree(stored / "params.dense.bias")
    with pytest.raises(ContainerError, match=r"params\.dense\.bias.*cannot be opened"):
        open_checkpoint(stored)


def test_a_corrupt_chunk_is_named(stored: Path) -> None:
    (stored / "params.dense.kernel" / "1.0").write_bytes(b"garbage")
    tensors = open_checkpoint(stored)
    with pytest.raises(ContainerError, match=r"params\.dense\.kernel.*cannot be read"):
        tensors["params/dense/kernel"].read()


def test_a_missing_file_of_ocdbt_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "ocdbt", tmp_path / "ocdbt"))
    for path in folder.glob("**/d/*"):
        path.unlink()
    with pytest.raises(ContainerError, match="the store of the arrays is damaged"):
        open_checkpoint(folder)


def test_links_that_lead_elsewhere_are_refused(stored: Path, tmp_path: Path) -> None:
    chunk = stored / "params.dense.kernel" / "0.0"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        open_checkpoint(stored)
    chunk.unlink()
    (stored / "params.dense.kernel").rename(tmp_path / "folder")
    (stored / "params.dense.kernel").symlink_to(tmp_path / "folder")
    with pytest.raises(CheckpointError, match=r"not a regular file|leads out"):
        open_checkpoint(stored)


@pytest.mark.parametrize("key", ["../../outside", "..", "a\0b", ""])
def test_keys_that_lead_elsewhere_are_refused(key: str, stored: Path) -> None:
    metadata = json.loads((stored / "_METADATA").read_text())
    entry = next(iter(metadata["tree_metadata"].values()))
    entry["key_metadata"] = [{"key": key, "key_type": 2}]
    (stored / "_METADATA").write_text(json.dumps(metadata))
    with pytest.raises(InputError):
        open_checkpoint(stored)


def test_a_chunk_far_larger_than_the_files_is_refused(stored: Path) -> None:
    path = stored / "params.dense.kernel" / ".zarray"
    array = json.loads(path.read_text())
    array["shape"] = array["chunks"] = [1 << 20, 1 << 20]
    path.write_text(json.dumps(array))
    for name in ("0.1", "1.0", "1.1"):
        (path.parent / name).unlink()
    with pytest.raises(ContainerError, match="too large for the bytes that are stored"):
        open_checkpoint(stored)


def test_without_tensorstore_the_extra_is_named(
    stored: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    for outcome in (
        cli("inspect", stored),
        cli("convert", write_small_bert(tmp_path / "b"), tmp_path / "o", "--to", "flax-orbax"),
    ):
        assert outcome.code == 2
        assert "pip install 'equipoise[orbax]'" in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_steps_and_items_are_chosen_or_listed(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "ocdbt", tmp_path / "1" / "state")
    shutil.copytree(GOLDEN / "ocdbt", tmp_path / "1" / "opt_state")
    assert "the folder 1/state was read" in open_checkpoint(tmp_path).oddities
    shutil.copytree(GOLDEN / "ocdbt", tmp_path / "2" / "state")
    with pytest.raises(CheckpointError, match=r"(?s)2 Orbax checkpoints.*1/state, 2/state"):
        open_checkpoint(tmp_path)


def test_an_unfinished_save_is_named(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "ocdbt", tmp_path / "state.orbax-checkpoint-tmp-3")
    with pytest.raises(CheckpointError, match="saving was not finished"):
        open_checkpoint(tmp_path)


BOMB = bytes.fromhex("28b52ffd") + b"\xa0" + (2 << 30).to_bytes(4, "little") + b"\1\0\0"
"""The head of a frame of Zstandard that declares 2 GiB."""


@pytest.mark.parametrize("ocdbt", [False, True])
def test_a_chunk_that_declares_too_much_is_refused(ocdbt: bool, tmp_path: Path) -> None:
    """tensorstore would make room for all that a frame declares before it reads any of it."""
    import tensorstore as ts

    name = "ocdbt" if ocdbt else "zarr"
    folder = Path(shutil.copytree(GOLDEN / name, tmp_path / name))
    base = {"driver": "file", "path": f"{folder}/"}
    spec = {"driver": "ocdbt", "base": base} if ocdbt else base
    store = ts.KvStore.open(spec).result()
    zarray = json.loads(store.read("params.dense.kernel/.zarray").result().value)
    assert zarray["compressor"]["id"] == "zstd"
    (key,) = [one for one in store.list().result() if one.startswith(b"params.dense.kernel/0.0")]
    store.write(key, BOMB).result()
    container = open_container(folder / "_METADATA")
    with pytest.raises(ContainerError, match="larger than its array's chunks are") as caught:
        container.tensors["params/dense/kernel"].read()
    assert "2147483648 bytes, decompressed" in str(caught.value)


def test_a_chunk_file_far_larger_than_a_chunk_is_refused(stored: Path) -> None:
    path = stored / "params.dense.kernel" / "1.0"
    with path.open("r+b") as file:
        file.truncate(1 << 32)
    with pytest.raises(ContainerError, match="larger than its array's chunks are"):
        open_checkpoint(stored)
