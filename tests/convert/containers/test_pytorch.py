"""PyTorch checkpoints: files of torch are read bit for bit, and torch reads written files."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.containers import pytorch
from equipoise.convert.containers._pytorch.tensor_tree import SINGLE_TENSOR_NAME
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import DTYPES, TensorHeader, array_blocks
from equipoise.fixtures.torch_files import dict_pickle, tensor_opcodes, write_legacy, write_zip

GOLDEN = Path(__file__).parent / "golden" / "pytorch"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
NOT_IN_TORCH = {"float8_e4m3", "float8_e4m3b11fnuz", "float8_e3m4"}
FLOATS = np.arange(24, dtype="<f4")


def everything() -> dict[str, Array]:
    """Returns a tensor of every dtype of PyTorch, a scalar and an empty tensor."""
    bits = np.random.default_rng(0).integers(0, 2, (3, 5))
    arrays = {n: bits.astype(dtype) for n, dtype in DTYPES.items() if n not in NOT_IN_TORCH}
    return arrays | {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 4), np.int64)}


def write(path: Path, arrays: dict[str, Array], *aliases: TensorHeader) -> Path:
    headers = [TensorHeader(name, array.dtype, array.shape) for name, array in arrays.items()]
    with pytorch.Writer(path, [*headers, *aliases], {}) as writer:
        for name, array in arrays.items():
            writer.write(name, array_blocks(array))
    return path


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_reads_what_torch_wrote(name: str) -> None:
    found = pytorch.read(GOLDEN / name)
    weights = {k: v for k, v in EXPECTED[name].items() if not k.startswith("optimizer.")}
    assert list(found.tensors) == list(weights)
    for key, (dtype, shape, digest) in weights.items():
        tensor = found.tensors[key]
        assert (tensor.dtype.name, list(tensor.shape)) == (dtype, shape)
        assert hashlib.sha256(tensor.read().tobytes()).hexdigest() == digest, key
        assert hashlib.sha256(b"".join(map(bytes, tensor.blocks()))).hexdigest() == digest, key


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_non_tensors_are_left_out_by_name(kind: str) -> None:
    found = pytorch.read(GOLDEN / f"training.{kind}.pt")
    assert dict(found.left_out) == {
        "epoch": "int, not a tensor",
        "optimizer": "state of an optimizer",
        "loss": "numpy value, not a tensor",
        "history": "numpy value, not a tensor",
        "name": "str, not a tensor",
        "device": "device, not a tensor",
        "dtype": "dtype, not a tensor",
        "size": "tuple of 2 values, no tensors",
        "tags": "list of 2 values, no tensors",
        "7": "NoneType, not a tensor",
    }


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_ties_are_seen_in_headers(kind: str) -> None:
    tensors = pytorch.read(GOLDEN / f"state_dict.{kind}.pt").tensors
    assert tensors["0.weight"].identity == tensors["2.weight"].identity is not None
    assert tensors["0.weight"].identity != tensors["0.bias"].identity
    views = pytorch.read(GOLDEN / f"views.{kind}.pt").tensors
    assert len({tensor.identity for tensor in views.values()}) == len(views)
    assert views["rows"].extent is not None
    assert views["row_axis"].extent is not None
    assert views["transposed"].extent is None


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quantized", "tensor 'w': a quantized tensor cannot be converted"),
        ("sparse", "tensor 'deep.0.w': a sparse tensor cannot be converted"),
        ("complex32", "tensor 'w': unsupported dtype torch.complex32"),
    ],
)
def test_refuses_tensors_that_only_torch_has(name: str, message: str, kind: str) -> None:
    with pytest.raises(UnsupportedDtypeError, match=message):
        pytorch.read(GOLDEN / f"{name}.{kind}.pt")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_sniffs_its_own(name: str, tmp_path: Path) -> None:
    assert pytorch.sniff(GOLDEN / name)
    for content in (b"", b"PK\3\4", b"\x80", b"PK\3\4" + b"\xff" * 40, bytes(600)):
        (tmp_path / "other").write_bytes(content)
        assert not pytorch.sniff(tmp_path / "other")


def test_round_trip_of_every_dtype(tmp_path: Path) -> None:
    arrays = everything()
    alias = TensorHeader("tied", DTYPES["float32"], (3, 5), alias_of="float32")
    found = pytorch.read(write(tmp_path / "x.pt", arrays, alias)).tensors
    assert list(found) == [*arrays, "tied"]
    assert found["tied"].identity == found["float32"].identity
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].read().tobytes() == array.tobytes()
        extent = found[name].extent
        assert extent is not None
        assert extent.offset % 64 == 0
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert archive.testzip() is None
    assert write(tmp_path / "y.pt", arrays, alias).read_bytes() == (tmp_path / "x.pt").read_bytes()


@pytest.mark.transformers
@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_we_write(tmp_path: Path, mmap: bool) -> None:
    import torch

    arrays = everything()
    alias = TensorHeader("tied", DTYPES["float32"], (3, 5), alias_of="float32")
    path = write(tmp_path / "x.pt", arrays, alias)
    loaded = torch.load(path, weights_only=True, mmap=mmap)
    assert loaded["tied"].data_ptr() == loaded["float32"].data_ptr()
    for name, array in arrays.items():
        tensor = loaded[name]
        assert tuple(tensor.shape) == array.shape
        assert tensor.is_contiguous()
        assert tensor.reshape(-1).view(torch.uint8).numpy().tobytes() == array.tobytes()
        assert str(tensor.dtype).removeprefix("torch.") in (name, "float32", "int64")


def sparse_file(path: Path) -> Path:
    """Writes a sparse checkpoint of 4.5 GiB: the first tensor is a hole in the file."""
    huge = TensorHeader("huge", DTYPES["int8"], (9 << 29,))
    after = TensorHeader("after", DTYPES["float32"], (2, 3))
    writer = pytorch.Writer(path, [huge, after], {})
    record = writer._next_record
    os.pwrite(writer._file.fileno(), record.local(0), record.header)
    writer._next_record = next(writer._placing)
    writer._crcs.append(0)
    writer._done += 1
    writer.write("after", array_blocks(FLOATS[:6]))
    writer.close()
    return path


def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "huge.pt")
    found = pytorch.read(path).tensors
    assert found["huge"].nbytes == 9 << 29
    np.testing.assert_array_equal(found["after"].read(), FLOATS[:6].reshape(2, 3))
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("archive/data/0").file_size == 9 << 29
        assert archive.read("archive/data/1") == FLOATS[:6].tobytes()


@pytest.mark.transformers
def test_torch_maps_more_than_four_gigabytes(tmp_path: Path) -> None:
    import torch

    loaded = torch.load(sparse_file(tmp_path / "huge.pt"), weights_only=True, mmap=True)
    assert loaded["huge"].shape == (9 << 29,)
    assert loaded["after"].tolist() == FLOATS[:6].reshape(2, 3).tolist()


def test_writer_refuses_mismatches(tmp_path: Path) -> None:
    header = TensorHeader("w", DTYPES["float32"], (2, 3))
    path = tmp_path / "x.pt"
    for count, found in ((5, "20 bytes"), (7, "more")):
        writer = pytorch.Writer(path, [header], {})
        with pytest.raises(ContainerError, match=found):
            writer.write("w", array_blocks(FLOATS[:count]))
        with pytest.raises(ContainerError, match="was not written"):
            writer.close()
    with (
        pytest.raises(ContainerError, match="another order"),
        pytorch.Writer(path, [header], {}) as w,
    ):
        w.write("v", array_blocks(FLOATS[:6]))
    with pytest.raises(ContainerError, match="the same name"):
        pytorch.Writer(path, [header, header], {})
    with pytest.raises(ContainerError, match="alias needs an earlier tensor"):
        pytorch.Writer(path, [header, TensorHeader("t", header.dtype, (2,), alias_of="w")], {})
    with pytest.raises(ContainerError, match="not valid Unicode"):
        pytorch.Writer(path, [TensorHeader("\ud800", header.dtype, ())], {})
    with pytest.raises(UnsupportedDtypeError, match="float8_e3m4"):
        pytorch.Writer(path, [TensorHeader("w", DTYPES["float8_e3m4"], ())], {})


def test_big_endian(tmp_path: Path) -> None:
    pairs = np.array([1 + 2j, 3 - 4j], np.complex64)
    items = {
        "w": tensor_opcodes((3, 2), (2, 1), offset=4, numel=24),
        "t": tensor_opcodes((2, 3), (1, 2), offset=4, numel=24),
        "c": tensor_opcodes((2,), (1,), numel=2, key="1", storage="torch ComplexFloatStorage"),
        "b": tensor_opcodes((2,), (1,), numel=2, key="2", storage="torch BFloat16Storage"),
    }
    storages = {"0": FLOATS.astype(">f4").tobytes(), "1": pairs.astype(">c8").tobytes()}
    storages["2"] = bytes.fromhex("3f80c000")
    path = write_zip(tmp_path / "big.pt", dict_pickle(items), storages, order="big")
    found = pytorch.read(path).tensors
    expected = FLOATS[4:10].reshape(3, 2)
    np.testing.assert_array_equal(found["w"].read(), expected)
    np.testing.assert_array_equal(found["t"].read(), expected.T)
    np.testing.assert_array_equal(found["c"].read(), pairs)
    assert found["b"].read().astype(np.float32).tolist() == [1.0, -2.0]


def test_storage_views_of_old_files(tmp_path: Path) -> None:
    shared = {"numel": 24, "legacy": True}
    items = {
        "whole": tensor_opcodes((24,), (1,), **shared),
        "part": tensor_opcodes((2, 3), (3, 1), offset=1, view=("9", 4, 8), **shared),
        "turned": tensor_opcodes((3, 2), (1, 3), offset=1, view=("9", 4, 8), **shared),
    }
    storages = [("0", 24, FLOATS.tobytes())]
    found = pytorch.read(write_legacy(tmp_path / "x.pt", dict_pickle(items), storages)).tensors
    np.testing.assert_array_equal(found["whole"].read(), FLOATS)
    np.testing.assert_array_equal(found["part"].read(), FLOATS[5:11].reshape(2, 3))
    np.testing.assert_array_equal(found["turned"].read(), FLOATS[5:11].reshape(2, 3).T)
    items = {"part": tensor_opcodes((2, 4), (4, 1), offset=1, view=("9", 4, 8), **shared)}
    with pytest.raises(ContainerError, match="reaches beyond its storage"):
        pytorch.read(write_legacy(tmp_path / "x.pt", dict_pickle(items), storages))


def test_compressed_storages(tmp_path: Path) -> None:
    pickled = dict_pickle({"w": tensor_opcodes((3,), (1,), offset=2, numel=24)})
    storages = {"0": FLOATS.tobytes()}
    path = write_zip(tmp_path / "x.pt", pickled, storages, compression=zipfile.ZIP_DEFLATED)
    found = pytorch.read(path)
    assert found.tensors["w"].read().tolist() == [2, 3, 4]
    assert "compressed" in found.oddities[0]


def test_bare_tensor_and_python_2(tmp_path: Path) -> None:
    one = tensor_opcodes((24,), (1,), numel=24)
    storages = {"0": FLOATS.tobytes()}
    found = pytorch.read(write_zip(tmp_path / "x.pt", b"\x80\2" + one + b".", storages))
    assert list(found.tensors) == [SINGLE_TENSOR_NAME]
    pairs = b"\x80\2ccollections\nOrderedDict\n](](U\1a" + one + b"e](U\1bI01\nee\x85R."
    found = pytorch.read(write_zip(tmp_path / "z.pt", pairs, storages))
    assert list(found.tensors) == ["a"]
    assert found.left_out == {"b": "bool, not a tensor"}
