"""TensorFlow checkpoints: files of TensorFlow are read bit for bit, under the variables' names."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.containers import tensor_bundle
from equipoise.convert.containers._bundle.entries import parse_entry, slice_key
from equipoise.convert.containers._bundle.non_weights import (
    non_weight_reason,
    non_weight_reason_in_graph,
)
from equipoise.convert.containers._bundle.snappy import decompress
from equipoise.convert.containers._bundle.sorted_table import SortedTable
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.hashing import masked_crc32c
from equipoise.convert.core.tensor import DTYPES, TensorHeader, array_blocks
from equipoise.fixtures.bundles import (
    HEADER,
    encode_entry,
    encode_number,
    write_bundle,
    write_table,
)

GOLDEN = Path(__file__).parent / "golden" / "bundle"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
FLOATS = np.arange(24, dtype="<f4")
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - {"parts.ckpt"}))
def test_reads_what_tensorflow_wrote(name: str) -> None:
    found = tensor_bundle.read(GOLDEN / f"{name}.index")
    keys = {tensor: found.metadata.get(f"key:{tensor}", tensor) for tensor in found.tensors}
    assert set(EXPECTED[name]) == set(keys.values()) | (set(found.left_out) & set(EXPECTED[name]))
    for tensor, key in keys.items():
        dtype, shape, digest = EXPECTED[name][key]
        reference = found.tensors[tensor]
        assert (reference.dtype.name, list(reference.shape)) == (dtype, shape)
        assert hashlib.sha256(reference.read().tobytes()).hexdigest() == digest, tensor
        assert hashlib.sha256(b"".join(map(bytes, reference.blocks()))).hexdigest() == digest
    prefix = tensor_bundle.read(GOLDEN / name)
    assert list(prefix.tensors) == list(found.tensors)
    assert tensor_bundle.sniff(GOLDEN / f"{name}.index")


def test_writes_what_tensorflow_writes(tmp_path: Path) -> None:
    """Index and data are byte for byte those of TensorFlow's own checkpoint of the same variables, checksums included."""
    index, data = "tf1_adam.ckpt.index", "tf1_adam.ckpt.data-00000-of-00001"
    table = dict(SortedTable(GOLDEN / index).entries())
    entries = {key.decode(): parse_entry(value) for key, value in table.items() if key}
    stored = memoryview((GOLDEN / data).read_bytes())
    headers = [
        TensorHeader(name, DTYPES[entry.dtype], entry.shape) for name, entry in entries.items()
    ]
    with tensor_bundle.Writer(tmp_path / index, headers, {}) as writer:
        for name, entry in entries.items():
            writer.write(name, [stored[entry.offset : entry.offset + entry.size]])
    for file in (index, data):
        assert (tmp_path / file).read_bytes() == (GOLDEN / file).read_bytes()
    state = (tmp_path / "checkpoint").read_text()
    assert state.splitlines()[0] == 'model_checkpoint_path: "tf1_adam.ckpt"'


@pytest.mark.parametrize("golden", ["tf1_adam.ckpt", "partitioned.ckpt", "keras.ckpt"])
def test_a_flipped_bit_is_found(golden: str, tmp_path: Path) -> None:
    """TensorFlow stores the checksum of every tensor, and of every slice."""
    for path in GOLDEN.glob(f"{golden}.*"):
        shutil.copy(path, tmp_path)
    found = tensor_bundle.read(tmp_path / f"{golden}.index")
    (data,) = tmp_path.glob("*.data-*")
    raw = bytearray(data.read_bytes())
    name, ref = max(found.tensors.items(), key=lambda item: item[1].nbytes)
    at = raw.index(ref.read().tobytes()[:8])
    raw[at + 5] ^= 1
    data.write_bytes(raw)
    for read in (ref.read, lambda: list(ref.blocks())):
        with pytest.raises(ContainerError, match="do not match their checksum") as caught:
            read()
        assert caught.value.tensor == name


@pytest.mark.slow
def test_many_variables_are_written_as_tensorflow_writes_them(tmp_path: Path) -> None:
    """An index of several blocks, whose keys in the index of blocks are shortened."""
    tf = pytest.importorskip("tensorflow")
    names = [f"encoder/layer_{i:05d}/part_{i % 7}/kernel" for i in range(12_000)]
    values = [np.full((i % 3, 2), i, np.float32) for i in range(len(names))]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(value) for value in values],
    )
    headers = [
        TensorHeader(name, value.dtype, value.shape)
        for name, value in zip(names, values, strict=True)
    ]
    with tensor_bundle.Writer(tmp_path / "ours.index", headers, {}) as writer:
        for name, value in zip(names, values, strict=True):
            writer.write(name, array_blocks(value))
    theirs, ours = ((tmp_path / f"{one}.index").read_bytes() for one in ("theirs", "ours"))
    assert len(ours) > 1 << 18
    assert ours == theirs


def test_parts_of_a_variable_are_put_together() -> None:
    found = tensor_bundle.read(GOLDEN / "parts.ckpt.index")
    raw = (GOLDEN / "parts.ckpt.data-00000-of-00001").read_bytes()

    def part(name: str, *shape: int) -> np.ndarray:  # type: ignore[type-arg]
        sizes = [
            np.prod(EXPECTED["parts.ckpt"][key][1]) * 4 for key in sorted(EXPECTED["parts.ckpt"])
        ]
        start = int(sum(sizes[: sorted(EXPECTED["parts.ckpt"]).index(name)]))
        return np.frombuffer(raw, "<f4", int(np.prod(shape)), start).reshape(shape)

    rows = [part(f"embeddings/part_{i}", n, 5) for i, n in enumerate((4, 4, 3))]
    np.testing.assert_array_equal(found.tensors["embeddings"].read(), np.concatenate(rows))
    columns = [part(f"kernel/part_{i}", 4, n) for i, n in enumerate((2, 3))]
    np.testing.assert_array_equal(found.tensors["kernel"].read(), np.concatenate(columns, 1))
    assert set(found.tensors) == {"embeddings", "kernel"}
    assert found.oddities == (
        "2 variables are stored in parts (part_0, ...), which are put together",
    )
    assert found.left_out["embeddings/part_1/Adam"] == "optimizer slot of embeddings/part_1"


def names(golden: str) -> set[str]:
    return set(tensor_bundle.read(GOLDEN / f"{golden}.index").tensors)


def test_names_are_those_of_the_variables() -> None:
    bert = names("keras.ckpt")
    assert "tf_bert_model/bert/embeddings/word_embeddings/weight" in bert
    assert "tf_bert_model/bert/encoder/layer_._0/attention/self/query/kernel" in bert
    assert len(bert) == 23
    assert names("saved_model/variables") == {"head/kernel", "head/bias"}
    assert {"scalar", "other", "var_bool"} < names("dtypes.ckpt")
    assert names("tf1_adam.ckpt") == {
        "bert/encoder/layer_0/attention/output/LayerNorm/beta",
        "bert/encoder/layer_0/attention/output/dense/bias",
        "bert/encoder/layer_0/attention/output/dense/kernel",
        "cls/beta",
    }
    trained = {"optimizer/kernel", "optimizer/bias", "dense/kernel", "dense/bias"}
    assert names("trained.ckpt") == trained
    assert names("trained_new.ckpt") == {"dense_1/kernel", "dense_1/bias"}


def test_variables_of_one_name_are_named_by_their_paths() -> None:
    found = tensor_bundle.read(GOLDEN / "dtypes.ckpt.index")
    assert found.tensors["scalar"].read() == 2.5
    assert found.tensors["other"].read() == 3.5
    assert "same" in found.oddities[0]
    assert found.left_out[f"text{VALUE}"] == "string, not numeric"


def test_bookkeeping_is_left_out_with_its_reason() -> None:
    left = tensor_bundle.read(GOLDEN / "tf1_adam.ckpt.index").left_out
    assert left["cls/beta/Adam"] == left["cls/beta/Adam_1"] == "optimizer slot of cls/beta"
    assert left["global_step"] == left["beta1_power"] == "counter of the training"
    assert len([name for name in left if name.endswith(("/adam_m", "/adam_v"))]) == 6
    left = tensor_bundle.read(GOLDEN / "trained.ckpt.index").left_out
    slot = f"model/layer_with_weights-0/kernel/.OPTIMIZER_SLOT/optimizer/m{VALUE}"
    assert left[slot] == "optimizer slot"
    assert left[f"optimizer/iter{VALUE}"] == "state of the optimizer"
    assert left[f"save_counter{VALUE}"] == "counter of the checkpoint"


@pytest.mark.parametrize(
    ("name", "shape", "others", "weight"),
    [
        ("LayerNorm/beta", (3,), {"LayerNorm/beta"}, True),
        ("dense/adam_m", (3,), set(), True),
        ("dense/kernel/adam_m", (3,), {"dense/kernel"}, False),
        ("train/dense/kernel/Adam", (3,), {"dense/kernel"}, False),
        ("block/m", (3,), {"block/k"}, True),
        ("block/kernel/m", (3,), {"kernel"}, True),
        ("training/Adam/dense/kernel/m", (3,), {"dense/kernel"}, False),
        ("w/ExponentialMovingAverage", (3,), {"w"}, False),
        ("k_slot_vc", (3,), {"k"}, False),
        ("k_slot_vc", (3,), set(), True),
        ("global_step", (), set(), False),
        ("global_step", (3,), set(), True),
    ],
)
def test_slots_need_their_variable(
    name: str, shape: tuple[int, ...], others: set[str], weight: bool
) -> None:
    assert (non_weight_reason(name, shape, others) is None) == weight


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("optimizer/kernel", True),
        ("model/optimizer/_variables/3", False),
        ("model/keras_api/metrics/0/total", False),
        ("metrics/kernel", True),
        ("model/save_counter", True),
        ("layer/beta_1", True),
    ],
)
def test_entries_of_object_graphs_that_are_not_weights(path: str, weight: bool) -> None:
    assert (non_weight_reason_in_graph(path + VALUE) is None) == weight


def test_known_checksums_and_codes() -> None:
    assert (
        masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32
    )
    key = slice_key(b"cut0", ((0, 24), (0, 130)))
    assert key == bytes.fromhex("00 63757430 0001 0102 80 98 80 c082")
    key = slice_key(b"\0\xff", ((1 << 40, -1),))
    assert key == bytes.fromhex("00 00ff ff00 0001 0101 fd0000000000 7f")


def test_snappy(tmp_path: Path) -> None:
    assert decompress(b"\x0b\x04ab\x22\x02\x00") == b"ab" * 5 + b"a"
    assert decompress(b"\x06\x04ab\x01\x02") == b"ab" * 3
    assert decompress(b"\x05\x00a\x0f\x01\x00\x00\x00") == b"aaaaa"
    path = tmp_path / "x.index"

    def literal(raw: bytes) -> bytes:
        return bytes([len(raw) & 0x7F | 0x80, len(raw) >> 7, 61 << 2]) + (
            (len(raw) - 1).to_bytes(2, "little") + raw
        )

    entries = [(b"", HEADER), (b"w", encode_entry((2,), 8))]
    write_bundle(path, {}, FLOATS.tobytes())
    write_table(path, entries, kind=1, pack=literal)
    assert tensor_bundle.read(path).tensors["w"].read().tolist() == [0, 1]
    for packed in (
        b"\xff\xff\xff\x7f\0a",
        b"\x05\x01\x01",
        b"\x05\xf0",
        b"\x05",
        b"",
        b"\xff" * 11,
    ):
        write_table(path, entries, kind=1, pack=lambda raw, packed=packed: packed)
        with pytest.raises(ContainerError):
            tensor_bundle.read(path)


def test_big_endian(tmp_path: Path) -> None:
    data = FLOATS.astype(">f4").tobytes() + np.array([1 + 2j], ">c8").tobytes()
    entries = {b"w": encode_entry((4, 6), 96), b"c": encode_entry((1,), 8, dtype=8, offset=96)}
    path = write_bundle(tmp_path / "x.index", entries, data, HEADER + encode_number(2, 1))
    found = tensor_bundle.read(path).tensors
    np.testing.assert_array_equal(found["w"].read(), FLOATS.reshape(4, 6))
    assert found["c"].read().tolist() == [1 + 2j]


def sliced(
    cuts: list[list[tuple[int, int]]], shape: tuple[int, ...] = (4, 6)
) -> dict[bytes, bytes]:
    out = {b"w": encode_entry(shape, 0, slices=cuts)}
    offset = 0
    for cut in cuts:
        size = 4 * int(np.prod([length for _, length in cut]))
        sizes = [length for _, length in cut]
        out[slice_key(b"w", tuple(cut))] = encode_entry(sizes, size, offset=offset)
        offset += size
    return out


def test_slices_must_cover_the_tensor_once(tmp_path: Path) -> None:
    path = tmp_path / "x.index"
    left, right, low = [(0, 4), (0, 2)], [(0, 4), (2, 4)], [(2, 2), (2, 4)]
    write_bundle(path, sliced([left, right]), FLOATS.tobytes())
    joined = np.concatenate([FLOATS[:8].reshape(4, 2), FLOATS[8:].reshape(4, 4)], axis=1)
    np.testing.assert_array_equal(tensor_bundle.read(path).tensors["w"].read(), joined)
    for cuts, message in (
        ([left], "do not cover"),
        ([left, right, low], "do not cover"),
        ([left, left, low], "is duplicated|do not cover"),
        ([left, [(0, 4), (3, 4)]], "reaches beyond its tensor"),
        ([[(0, 24)]], "different numbers of axes"),
    ):
        write_bundle(path, sliced(cuts), FLOATS.tobytes() * 2)
        with pytest.raises(ContainerError, match=message):
            tensor_bundle.read(path)
    pieces = sliced([left, right])
    del pieces[slice_key(b"w", tuple(right))]
    write_bundle(path, pieces, FLOATS.tobytes())
    with pytest.raises(ContainerError, match="is missing"):
        tensor_bundle.read(path)
    pieces = sliced([left, right])
    pieces[b"w"] = encode_entry((4, 6), 96, offset=96)
    write_bundle(path, pieces, FLOATS.tobytes() * 2)
    with pytest.raises(ContainerError, match="does not belong to any tensor"):
        tensor_bundle.read(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "shards.ckpt.index", tmp_path)
    shutil.copy(GOLDEN / "shards.ckpt.data-00000-of-00002", tmp_path)
    with pytest.raises(CheckpointError, match=re.escape("shards.ckpt.data-00001-of-00002")):
        tensor_bundle.read(tmp_path / "shards.ckpt.index")
    with pytest.raises(CheckpointError, match=re.escape("none.ckpt.index")):
        tensor_bundle.read(tmp_path / "none.ckpt")


def test_refuses_version_1() -> None:
    with pytest.raises(ContainerError, match="version 1 is not supported"):
        tensor_bundle.read(GOLDEN / "version1.ckpt")


def test_sniffs_nothing_else(tmp_path: Path) -> None:
    for content in (b"", b"\x57", bytes(100)):
        (tmp_path / "x.index").write_bytes(content)
        assert not tensor_bundle.sniff(tmp_path / "x.index")
