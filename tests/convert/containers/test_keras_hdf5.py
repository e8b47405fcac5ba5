"""Keras HDF5: golden files of TensorFlow's Keras, and written files that h5py reads."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from equipoise.convert.containers import keras_hdf5
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import DTYPES, TensorHeader, array_blocks

GOLDEN = Path(__file__).parent / "golden"
GOLDENS = sorted(path.name for path in GOLDEN.glob("keras_*.h5"))
F32 = np.dtype(np.float32)


def headers_of(container: Container) -> list[TensorHeader]:
    groups = json.loads(container.metadata.get("groups", "null")) or {"": list(container.tensors)}
    seen: set[str] = set()
    headers = []
    for group, names in groups.items():
        for name in names:
            ref = container.tensors[name]
            alias = name if name in seen else None
            headers.append(TensorHeader(name, ref.dtype, ref.shape, group, alias))
            seen.add(name)
    return headers


def copy(container: Container, path: Path) -> None:
    headers = headers_of(container)
    with keras_hdf5.Writer(path, headers, container.metadata) as writer:
        for header in headers:
            if header.alias_of is None:
                writer.write(header.name, container.tensors[header.name].blocks())


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_are_read_as_keras_reads_them(name: str) -> None:
    rows = json.loads((GOLDEN / f"{name}.json").read_text())
    container = keras_hdf5.read(GOLDEN / name)
    assert set(container.tensors) == set(rows)
    assert container.left_out == {}
    for ref in container.tensors.values():
        found = [ref.dtype.name, list(ref.shape), hashlib.sha256(ref.read().tobytes()).hexdigest()]
        assert found == rows[ref.name]


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_go_through_the_writer_unchanged(name: str, tmp_path: Path) -> None:
    container = keras_hdf5.read(GOLDEN / name)
    copy(container, tmp_path / name)
    back = keras_hdf5.read(tmp_path / name)
    assert back.metadata == container.metadata
    assert list(back.tensors) == list(container.tensors)
    with h5py.File(GOLDEN / name) as theirs, h5py.File(tmp_path / name) as ours:
        assert dict(described(theirs)) == dict(described(ours))


def described(group: h5py.Group) -> Iterator[tuple[str, str]]:
    """Returns each object by its path, a dataset with two paths twice; ``visititems`` would show one."""
    yield group.name, describe(group)
    for child in group.values():
        if isinstance(child, h5py.Group):
            yield from described(child)
        else:
            yield child.name, describe(child)


def describe(node: Any) -> str:
    """Returns attributes, and type and bytes of a dataset, which must be equal in two files."""
    attributes = {
        name: (str(node.attrs.get_id(name).dtype), np.asarray(value).tolist())
        for name, value in sorted(node.attrs.items())
    }
    values = (str(node.dtype), node[()].tobytes()) if isinstance(node, h5py.Dataset) else ()
    return repr((attributes, values))


def test_variants_and_origin() -> None:
    bert = keras_hdf5.read(GOLDEN / "keras_bert.h5").metadata
    assert (bert["variant"], bert["backend"]) == ("keras", "tensorflow")
    assert bert["keras_version"].startswith("2.")
    assert list(json.loads(bert["groups"])) == ["bert", "top_level_model_weights"]
    shards = [keras_hdf5.read(GOLDEN / name) for name in GOLDENS if "shard" in name]
    assert [shard.metadata for shard in shards] == [{"variant": "flat"}] * 3
    assert [len(shard.tensors) for shard in shards] == [0, 1, 22]


def test_a_variable_of_two_layers_is_one_tensor_if_its_copies_agree(tmp_path: Path) -> None:
    golden = GOLDEN / "keras_t5.h5"
    container = keras_hdf5.read(golden)
    assert "1 variables are stored in more than one layer" in container.oddities[0]
    groups = json.loads(container.metadata["groups"])
    name = "shared/shared/embeddings:0"
    assert [group for group in groups if name in groups[group]] == ["shared", "encoder", "decoder"]

    path = tmp_path / "a.h5"
    path.write_bytes(golden.read_bytes())
    with h5py.File(path, "r+") as file:
        file[f"encoder/{name}"][0, 0] += 1
    with pytest.raises(ContainerError, match="different values"):
        keras_hdf5.read(path).tensors[name].read()
    with h5py.File(path, "r+") as file:
        del file[f"encoder/{name}"]
        file[f"encoder/{name}"] = np.zeros(3, np.float32)
    with pytest.raises(ContainerError, match="different tensors"):
        keras_hdf5.read(path)


def test_links_to_one_dataset_are_one_identity(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    headers = [
        TensorHeader("m/w:0", F32, (2,), "one"),
        TensorHeader("m/w:0", F32, (2,), "two", alias_of="m/w:0"),
        TensorHeader("m/tied:0", F32, (2,), "two", alias_of="m/w:0"),
        TensorHeader("m/x:0", F32, (2,), "two"),
    ]
    with keras_hdf5.Writer(path, headers, {}) as writer:
        writer.write("m/w:0", array_blocks(np.float32([1, 2])))
        writer.write("m/x:0", array_blocks(np.float32([3, 4])))
    container = keras_hdf5.read(path)
    assert json.loads(container.metadata["groups"]) == {
        "one": ["m/w:0"],
        "two": ["m/w:0", "m/tied:0", "m/x:0"],
        "top_level_model_weights": [],
    }
    tensors = container.tensors
    assert tensors["m/tied:0"].identity == tensors["m/w:0"].identity != tensors["m/x:0"].identity
    assert all(ref.extent is not None for ref in tensors.values())
    assert container.oddities == ()
    with h5py.File(path) as file:
        assert file["two/m/tied:0"][()].tolist() == [1, 2]
        assert file["two/m/x:0"][()].tolist() == [3, 4]


@pytest.mark.parametrize(
    "headers",
    [
        [TensorHeader("w", F32, (2,), "a"), TensorHeader("w", F32, (2,), "b")],
        [TensorHeader("w", F32, (2,), "a"), TensorHeader("w", F32, (2,), "a", "w")],
        [TensorHeader("w", F32, (2,), "a", "w")],
        [TensorHeader("w", F32, (2,)), TensorHeader("v", F32, (3,), alias_of="w")],
        [TensorHeader("w", F32, (2,)), TensorHeader("w/v", F32, (2,))],
        [TensorHeader("a//b", F32, (2,))],
        [TensorHeader("./b", F32, (2,))],
    ],
)
def test_headers_that_contradict_each_other_are_refused(
    headers: list[TensorHeader], tmp_path: Path
) -> None:
    with pytest.raises(ContainerError):
        keras_hdf5.Writer(tmp_path / "a.h5", headers, {})


@pytest.mark.parametrize("metadata", [{"variant": "odd"}, {"groups": "{"}, {"groups": "[1]"}])
def test_invalid_metadata_is_refused(metadata: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ContainerError):
        keras_hdf5.Writer(tmp_path / "a.h5", [], metadata)


def test_h5py_reads_every_dtype_that_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    values = {
        f"m/{name}": np.arange(4).astype(DTYPES[name])
        for name in sorted(keras_hdf5.WRITABLE_DTYPES - {"bfloat16"})
    }
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in values.items()]
    with keras_hdf5.Writer(path, headers, {"variant": "flat"}) as writer:
        for name, value in values.items():
            writer.write(name, array_blocks(value))
    with h5py.File(path) as file:
        assert sorted(file.attrs["layer_names"]) == sorted(values)
        for name, value in values.items():
            assert file[name].dtype == value.dtype
            np.testing.assert_array_equal(file[name][()], value)


def test_long_lists_are_cut_into_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    headers = [TensorHeader(f"m/{at:04}/{'n' * 90}:0", np.dtype(np.int8), ()) for at in range(1000)]
    with keras_hdf5.Writer(path, headers, {}) as writer:
        for at, header in enumerate(headers):
            writer.write(header.name, array_blocks(np.array(at % 100, np.int8)))
    with h5py.File(path) as file:
        assert set(file["top_level_model_weights"].attrs) == {"weight_names0", "weight_names1"}
        assert len(file["top_level_model_weights"].attrs["weight_names0"]) == 500
    tensors = keras_hdf5.read(path).tensors
    assert list(tensors) == [header.name for header in headers]
    assert [ref.read()[()] for ref in tensors.values()] == [at % 100 for at in range(1000)]


def test_layers_without_weights_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    metadata = {"groups": json.dumps({"dropout": [], "dense": ["?"]}), "keras_version": "2.9.0"}
    headers = [TensorHeader("m/w:0", F32, (1,), "dense")]
    with keras_hdf5.Writer(path, headers, metadata) as writer:
        writer.write("m/w:0", array_blocks(np.float32([5])))
    with h5py.File(path) as file:
        assert file.attrs["layer_names"].tolist() == ["dropout", "dense"]
        assert file.attrs["keras_version"] == "2.9.0"
        assert file["dropout"].attrs["weight_names"].tolist() == []


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("block", [0, 512])
def test_other_ways_to_store_the_same_values(version: str, block: int, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    value = np.arange(40.0, dtype=np.float32).reshape(5, 8)
    with h5py.File(path, "w", libver=version, userblock_size=block) as file:
        file.attrs["layer_names"] = np.array([b"big", b"chunked", b"gzip", b"plain", b"scalar"])
        file["big"] = value.astype(">f4")
        file.create_dataset("chunked", data=value, chunks=(2, 8))
        options = {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (3, 5)}
        file.create_dataset("gzip", data=value.astype(">f4"), **options)
        file["plain"] = value
        file["scalar"] = np.float64(2.5)
    assert keras_hdf5.sniff(path)
    tensors = keras_hdf5.read(path).tensors
    for name in ("big", "chunked", "gzip", "plain"):
        assert tensors[name].dtype == np.dtype("<f4")
        np.testing.assert_array_equal(tensors[name].read(), value)
        assert (tensors[name].extent is not None) == (name == "plain")
    assert tensors["scalar"].read() == np.float64(2.5)


def test_whole_models_are_read_and_their_optimizer_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"d"]
        root.attrs["keras_version"] = b"2.1.0"
        root.create_group("d").attrs["weight_names"] = [b"m/d/w:0"]
        root["d/m/d/w:0"] = np.float32([1]).astype(">f4")
        file["optimizer_weights/step"] = np.int64(3)
    container = keras_hdf5.read(path)
    assert container.tensors["m/d/w:0"].read().tolist() == [1.0]
    assert container.metadata["keras_version"] == "2.1.0"
    assert container.left_out == {"optimizer_weights/step": "no layer lists it as a weight"}


def test_tensors_beyond_2_gib_are_addressed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    headers = [TensorHeader("m/w:0", F32, (3, 2**28), "d"), TensorHeader("m/b:0", F32, (1,), "d")]
    writer = keras_hdf5.Writer(path, headers, {})
    writer._file.release()
    assert path.stat().st_blocks * 512 < 2**20
    tensors = keras_hdf5.read(path).tensors
    assert tensors["m/w:0"].nbytes == 3 * 2**30
    assert tensors["m/b:0"].extent is not None
    assert tensors["m/b:0"].extent.offset > 3 * 2**30
    with open(path, "r+b") as file:
        file.seek(tensors["m/b:0"].extent.offset)
        file.write(np.float32(2.5).tobytes())
    with h5py.File(path) as file:
        assert file["d/m/b:0"][()].tolist() == [2.5]


def test_a_limit_of_the_system_is_reported(tmp_path: Path) -> None:
    """libhdf5 reports a full disk with its own errors."""
    code = (
        "import resource, sys, numpy as np; from pathlib import Path;"
        "from equipoise.convert.containers import keras_hdf5;"
        "from equipoise.convert.core.tensor import TensorHeader;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "header = TensorHeader('m/a/kernel:0', np.dtype('float32'), (100, 100), 'a');"
        "keras_hdf5.Writer(Path(sys.argv[1]), [header], {})"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tf_model.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr
