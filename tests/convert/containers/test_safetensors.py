"""safetensors: compared with the library both ways, and with the limits of its specification."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from equipoise.convert.containers import safetensors
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import DTYPES, TensorHeader, array_blocks

PLAIN = ("bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "complex64")


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in tensors.items()]
    with safetensors.Writer(path, headers, metadata) as writer:
        for name, value in tensors.items():
            writer.write(name, array_blocks(value))


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        name: (np.arange(6, dtype=np.uint8) % 3).reshape(2, 3).astype(DTYPES[name])
        for name in sorted(safetensors.WRITABLE_DTYPES)
    }
    save_file(tensors, path, metadata={"format": "pt"})
    container = safetensors.read(path)
    assert container.metadata == {"format": "pt"}
    assert set(container.tensors) == set(tensors)
    for name, value in tensors.items():
        assert container.tensors[name].dtype == value.dtype
        assert container.tensors[name].read().tobytes() == value.tobytes()


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {f"m.{name}": np.arange(6).reshape(3, 2).astype(name) for name in PLAIN}
    tensors |= {"m.scalar": np.array(1.5, np.float32), "m.empty": np.zeros((4, 0), np.float32)}
    write(path, tensors, {"format": "np", "é": "\n"})
    back = load_file(path)
    assert set(back) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == value.dtype
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "np", "é": "\n"}


def test_same_order_gives_the_librarys_bytes(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    names = ['q"uote', "tab\t", "unicode é", "a.weight", "b/c:0"]
    tensors = {name: np.full((2, at + 1), at, np.float32) for at, name in enumerate(sorted(names))}
    tensors["z.empty"] = np.zeros((0,), np.float32)
    save_file(tensors, theirs, metadata={"format": "pt"})
    write(ours, tensors, {"format": "pt"})
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_order_of_the_headers_is_the_order_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"z": np.int8([1]), "a": np.float64([2.0]), "m": np.float16([3.0])}
    write(path, tensors, {})
    container = safetensors.read(path)
    assert list(container.tensors) == ["z", "a", "m"]
    assert path.read_bytes().endswith(b"".join(value.tobytes() for value in tensors.values()))
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    assert container.metadata == {}


BAD = {
    "bad json": b"{x}",
    "not a map": b"[]",
    "leading space": b' {"a":1}',
    "not utf-8": b'{"\xff":1}',
    "nested bomb": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "digits bomb": b'{"a":' + b"9" * 9999 + b"}",
    "duplicate": b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    "duplicate field": b'{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    "nan": b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}',
    "surrogate": b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    "metadata number": {"__metadata__": {"a": 1}},
    "metadata list": {"__metadata__": []},
    "entry a list": {"a": []},
    "extra field": {"a": {**entry([0], 0, 0), "x": 1}},
    "missing field": {"a": {"dtype": "F32", "shape": [0]}},
    "shape a text": {"a": entry("0", 0, 0)},
    "shape of floats": {"a": entry([1.0], 0, 4)},
    "shape of booleans": {"a": entry([True], 0, 4)},
    "negative": {"a": entry([-1, -1], 0, 4)},
    "huge": {"a": entry([2**70], 0, 0)},
    "huge beside zero": {"a": entry([0, 2**70], 0, 0)},
    "huge product": {"a": entry([2**40, 2**40], 0, 0)},
    "too many axes": {"a": entry([1] * 33, 0, 4)},
    "offsets negative": {"a": entry([1], -4, 0)},
    "offsets reversed": {"a": entry([1], 4, 0)},
    "offsets floats": {"a": entry([1], 0.0, 4.0)},
    "offsets three": {"a": {**entry([1], 0, 4), "data_offsets": [0, 4, 8]}},
    "size mismatch": {"a": entry([2], 0, 4)},
    "beyond the end": {"a": entry([2], 0, 8)},
    "far beyond the end": {"a": entry([2**40], 0, 2**42)},
    "trailing bytes": {"a": entry([0], 0, 0)},
    "empty with data": {},
    "gap": {"a": entry([], 0, 4), "b": entry([0], 8, 8)},
    "overlap": {"a": entry([], 0, 4), "b": entry([], 0, 4)},
    "name dots": {"a/../../b": entry([], 0, 4)},
    "name nul": {"a\0": entry([], 0, 4)},
    "name empty": {"": entry([], 0, 4)},
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD.keys())
def test_bad_headers_are_refused(header: object, tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", header, b"1234")
    with pytest.raises(ContainerError) as caught:
        safetensors.read(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("length", [0, 1, 5, 100_000_001, 2**63, 2**64 - 1])
def test_bad_header_lengths_are_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(ContainerError, match="length"):
        safetensors.read(path)


@pytest.mark.parametrize("code", ["F4", "F6_E2M3", "F6_E3M2", "X9", "", None, 3])
def test_dtypes_without_whole_bytes_are_refused_by_name(code: Any, tmp_path: Path) -> None:
    path = raw(tmp_path / "a", {"w": entry([2], 0, 1, code)}, b"1")
    with pytest.raises(UnsupportedDtypeError) as caught:
        safetensors.read(path)
    assert caught.value.tensor == "w"
    assert repr(code) in caught.value.message


def test_a_valid_header_in_any_order_of_entries(tmp_path: Path) -> None:
    header = {"b": entry([1], 4, 8), "e": entry([0], 4, 4), "a": entry([1], 0, 4)}
    path = raw(tmp_path / "a", header, np.float32([1, 2]).tobytes())
    tensors = safetensors.read(path).tensors
    assert list(tensors) == ["a", "e", "b"]
    assert tensors["b"].read().tolist() == [2.0]


def test_tensors_beyond_4_gib_are_addressed(tmp_path: Path) -> None:
    size = 5 * 2**30
    path = raw(tmp_path / "a", {"a": entry([size], 0, size, "U8"), "b": entry([1], size, size + 4)})
    start = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(start + size + 4)
        file.seek(start + size)
        file.write(np.float32(2.5).tobytes())
    tensors = safetensors.read(path).tensors
    assert tensors["a"].nbytes == size
    assert tensors["b"].read().tolist() == [2.5]


def test_the_reserved_name_cannot_be_written(tmp_path: Path) -> None:
    header = TensorHeader("__metadata__", np.dtype(np.int8), (1,))
    with pytest.raises(ContainerError, match="reserved"):
        safetensors.Writer(tmp_path / "a", [header], {})


def test_a_truncated_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, {"a": np.arange(9.0)}, {})
    ref = safetensors.read(path).tensors["a"]
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(ContainerError, match="ended"):
        ref.read()


@pytest.mark.parametrize("value", [b"[]", b"{}", b'""', b'[["a"]]'])
def test_a_header_of_tiny_values_is_refused_before_it_is_parsed(
    value: bytes, tmp_path: Path
) -> None:
    text = b'{"a":[' + b",".join([value] * 1_000_000) + b"]}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    tracemalloc.start()
    try:
        with pytest.raises(ContainerError, match="the header is not JSON") as caught:
            safetensors.read(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text)
    finally:
        tracemalloc.stop()
    assert "too many tiny values" in str(caught.value)


def test_a_header_of_very_short_entries_is_read(tmp_path: Path) -> None:
    tensors = {f"{index:x}": np.zeros((1,) * (index % 9), np.int8) for index in range(20_000)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert safetensors.read(tmp_path / "model.safetensors").tensors.keys() == tensors.keys()
