"""Flax msgpack: golden files of Flax, read and written back byte for byte, and hostile files."""

from __future__ import annotations

import hashlib
import json
import struct
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from equipoise.convert.containers import flax_msgpack
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import BLOCK_BYTES, TensorHeader, array_blocks

GOLDEN = Path(__file__).parent / "golden"
CHUNKED = "__msgpack_chunked_array__"


def array(value: Any, code: int = 1) -> msgpack.ExtType:
    value = np.asarray(value)
    return msgpack.ExtType(code, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))


def triple(*parts: Any) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb(parts))


def saved(path: Path, tree: Any) -> Path:
    path.write_bytes(tree if isinstance(tree, bytes) else msgpack.packb(tree))
    return path


def copy(container: Container, path: Path) -> None:
    headers = [TensorHeader(ref.name, ref.dtype, ref.shape) for ref in container.tensors.values()]
    with flax_msgpack.Writer(path, headers, {}) as writer:
        for ref in container.tensors.values():
            writer.write(ref.name, ref.blocks())


@pytest.mark.parametrize("name", ["flax_bert", "flax_dtypes", "flax_chunked"])
def test_goldens_are_read_as_flax_reads_them(name: str) -> None:
    path = GOLDEN / f"{name}.msgpack"
    rows = json.loads((GOLDEN / f"{name}.msgpack.json").read_text())
    container = flax_msgpack.read(path)
    assert list(container.tensors) == list(rows)
    assert (container.left_out, container.oddities) == ({}, ())
    for ref in container.tensors.values():
        found = [ref.dtype.name, list(ref.shape), hashlib.sha256(ref.read().tobytes()).hexdigest()]
        assert found == rows[ref.name]
        assert hashlib.sha256(b"".join(map(bytes, ref.blocks()))).hexdigest() == rows[ref.name][2]


@pytest.mark.parametrize(("name", "chunk"), [("bert", None), ("dtypes", None), ("chunked", 64)])
def test_written_files_are_byte_for_byte_those_of_flax(
    name: str, chunk: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chunk is not None:
        monkeypatch.setattr(flax_msgpack.Writer, "chunk_bytes", chunk)
    golden = GOLDEN / f"flax_{name}.msgpack"
    copy(flax_msgpack.read(golden), tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == golden.read_bytes()


def test_non_arrays_are_left_out_with_a_reason() -> None:
    container = flax_msgpack.read(GOLDEN / "flax_state.msgpack")
    assert set(container.tensors) == {"w", "scalar"}
    assert container.tensors["scalar"].read() == np.float32(4)
    assert container.oddities == (
        "scalar is a numpy scalar; it is written as an array without axes",
    )
    assert container.left_out == {
        "step": "an integer, not a tensor",
        "none": "nothing (nil), not a tensor",
        "rate": "a float, not a tensor",
        "many": "a list, not a tensor",
        "key": "a complex number, not a tensor",
        "void": "an empty map",
    }


def test_maps_are_nested_in_the_order_of_the_headers(tmp_path: Path) -> None:
    path = tmp_path / "a"
    names = ["z/b", "a/x", "z/a", "m"]
    headers = [TensorHeader(name, np.dtype(np.int8), (1,)) for name in names]
    with flax_msgpack.Writer(path, headers, {}) as writer:
        for at, name in enumerate(names):
            writer.write(name, array_blocks(np.int8([at])))
    tree = msgpack.unpackb(path.read_bytes())
    assert [*tree, *tree["z"]] == ["z", "a", "m", "b", "a"]
    read = {name: ref.read().tolist() for name, ref in flax_msgpack.read(path).tensors.items()}
    assert read == {"z/b": [0], "z/a": [2], "a/x": [1], "m": [3]}


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 15, 16, 300, 70000])
def test_counts_and_lengths_of_every_width(count: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    many = {f"k{at}": array(np.int8([at % 100])) for at in range(count)}
    long = {"n" * length: array(np.zeros(length, np.int8)) for length in (31, 32, 256)}
    wide = {"wide": array(np.arange(count, dtype=np.float64))}
    saved(path, {"many": many, "long": long, **wide})
    container = flax_msgpack.read(path)
    assert len(container.tensors) == count + 4
    assert container.tensors["wide"].read().sum() == count * (count - 1) / 2
    if count:
        copy(container, tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == path.read_bytes()


def test_old_files_mark_bytes_as_text(tmp_path: Path) -> None:
    old = msgpack.packb(((2,), b"int16", b"\1\0\2\0"), use_bin_type=False)
    path = saved(tmp_path / "a", {"w": msgpack.ExtType(1, old)})
    assert flax_msgpack.read(path).tensors["w"].read().tolist() == [1, 2]


def test_a_slash_in_a_key_is_read_unless_it_collides(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", {"a/b": array([1.0]), "a": {"c": array([2.0])}})
    assert list(flax_msgpack.read(path).tensors) == ["a/b", "a/c"]
    saved(path, {"a/b": array([1.0]), "a": {"b": array([2.0])}})
    with pytest.raises(ContainerError, match="one name"):
        flax_msgpack.read(path)


def chunks(shape: Any, parts: list[Any], **more: Any) -> dict[str, Any]:
    numbered = {str(at): array(part) for at, part in enumerate(parts)}
    return {"w": {CHUNKED: True, "shape": shape, "chunks": numbered, **more}}


def nested(depth: int) -> bytes:
    return b"\x81\xa1a" * depth + msgpack.packb(array([1.0]))


GOOD = msgpack.packb({"w": array(np.arange(4.0))})
BAD: dict[str, Any] = {
    "empty file": b"",
    "not a map": [array([1.0])],
    "an array alone": array([1.0]),
    "trailing byte": GOOD + b"\0",
    "reserved byte": b"\x81\xa1a\xc1",
    "map bomb": b"\xdf\xff\xff\xff\xff",
    "list bomb": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "text bomb": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "bytes bomb": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "extension bomb": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
    "key bomb": b"\x81\xdb\xff\xff\xff\xff",
    "deep maps": nested(101),
    "deep lists": b"\x81\xa1a" + b"\x91" * 500 + b"\xc0",
    "integer key": msgpack.packb({1: array([1.0])}),
    "bytes key": msgpack.packb({b"a": array([1.0])}),
    "broken utf-8": b"\x81\xa1\xff\xc0",
    "key twice": b"\x82\xa1a\xc0\xa1a\xc0",
    "long key": {"k" * 5000: array([1.0])},
    "empty key": {"": array([1.0])},
    "dots": {"a": {"..": array([1.0])}},
    "nul": {"a\0": array([1.0])},
    "two parts": {"w": triple((1,), "int8")},
    "four parts": {"w": triple((1,), "int8", b"1", 0)},
    "array of nothing": {"w": msgpack.ExtType(1, b"")},
    "shape a number": {"w": triple(1, "int8", b"1")},
    "shape of texts": {"w": triple(("1",), "int8", b"1")},
    "shape of booleans": {"w": triple((True,), "int8", b"1")},
    "shape of floats": {"w": triple((1.0,), "int8", b"1")},
    "shape of nan": {"w": triple((float("nan"),), "int8", b"1")},
    "negative shape": {"w": triple((-1, -1), "int8", b"1")},
    "huge beside zero": {"w": triple((0, 2**63, 2**63), "int8", b"")},
    "huge shape": {"w": triple((2**40,), "int8", b"1")},
    "many axes": {"w": triple((1,) * 33, "int8", b"1")},
    "shape bomb": {"w": msgpack.ExtType(1, b"\x93\xdd\xff\xff\xff\xff")},
    "too few bytes": {"w": triple((2,), "int8", b"1")},
    "too many bytes": {"w": triple((1,), "int8", b"12")},
    "slack": {"w": msgpack.ExtType(1, msgpack.packb(((1,), "int8", b"1")) + b"\0")},
    "bytes missing": {"w": triple((1,), "int8", None)},
    "dtype a number": {"w": triple((1,), 3, b"1")},
    "scalar with axes": {"w": array([1.0], code=3)},
    "chunks missing": {"w": {CHUNKED: True, "shape": {"0": 1}}},
    "chunks misnumbered": {"w": {CHUNKED: True, "shape": {"0": 1}, "chunks": {"1": array([1.0])}}},
    "no chunks": chunks({"0": 0}, []),
    "chunk not flat": chunks({"0": 1}, [[[1.0]]]),
    "chunks of two dtypes": chunks({"0": 2}, [np.float32([1]), np.int32([1])]),
    "chunks too short": chunks({"0": 3}, [[1.0], [2.0]]),
    "chunk shape negative": chunks({"0": -2, "1": -1}, [[1.0], [2.0]]),
    "chunk shape a text": chunks({"0": "2"}, [[1.0], [2.0]]),
    "chunk shape a list": chunks([2], [[1.0], [2.0]]),
    "chunk extra": chunks({"0": 2}, [[1.0], [2.0]], extra=1),
}


@pytest.mark.parametrize("tree", BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused(tree: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.msgpack", tree)
    with pytest.raises(ContainerError) as caught:
        flax_msgpack.read(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("name", [">f4", "<f4", "int4", "object", "V2", "float4_e2m1fn", "é"])
def test_dtypes_that_are_unknown_or_ambiguous_are_refused(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a", {"a": {"w": triple((1,), name, b"1234")}})
    with pytest.raises(UnsupportedDtypeError) as caught:
        flax_msgpack.read(path)
    assert caught.value.tensor == "a/w"


def test_a_hundred_levels_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", nested(99))
    assert next(iter(flax_msgpack.read(path).tensors)) == "/".join("a" * 99)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a//b",), ("/a",), ("k" * 5000,)])
def test_names_that_are_not_a_tree_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    headers = [TensorHeader(name, np.dtype(np.int8), (1,)) for name in names]
    with pytest.raises(ContainerError):
        flax_msgpack.Writer(tmp_path / "a", headers, {})


def test_arrays_beyond_1_gib_are_cut_and_streamed(tmp_path: Path) -> None:
    """The file is sparse: only the layout and both ends are checked."""
    path = tmp_path / "a"
    header = TensorHeader("w", np.dtype(np.float32), (2**28 + 2, 2))
    flax_msgpack.Writer(path, [header], {})._file.release()
    assert path.stat().st_blocks * 512 < 2**20
    assert path.stat().st_size > 2**31
    ref = flax_msgpack.read(path).tensors["w"]
    assert isinstance(ref.stream, partial)
    (parts,) = ref.stream.args
    assert [part.nbytes for part in parts] == [2**30, 2**30, 16]
    with open(path, "r+b") as file:
        file.seek(parts[2].offset)
        file.write(struct.pack("<4f", 1, 2, 3, 4))
    assert parts[2].read().view(np.float32).tolist() == [1, 2, 3, 4]
    assert len(next(ref.blocks())) == BLOCK_BYTES


def test_an_array_of_exactly_1_gib_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    header = TensorHeader("w", np.dtype(np.int8), (2**30,))
    flax_msgpack.Writer(path, [header], {})._file.release()
    assert flax_msgpack.read(path).tensors["w"].extent is not None


def test_long_paths_of_many_arrays_are_refused(tmp_path: Path) -> None:
    """A file of 90 kB names 20,000 arrays with paths of 4 kB, which would take 80 MB."""
    leaves = {f"{index:04x}": 0 for index in range(20_000)}
    path = saved(tmp_path / "a.msgpack", {"k" * 2000: {"l" * 2000: leaves}})
    assert path.stat().st_size < 150_000
    with pytest.raises(ContainerError, match="the paths of keys take more memory than the file"):
        flax_msgpack.read(path)


def test_many_values_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.msgpack", {"a": [None] * 1_000_001})
    with pytest.raises(ContainerError, match="more than 1000000 values are no arrays"):
        flax_msgpack.read(path)
