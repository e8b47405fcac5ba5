"""Corrupt PyTorch files: wrong numbers, names or archives; the error names the problem."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.containers import pytorch
from equipoise.convert.core.errors import ContainerError, UnsafePickleError
from equipoise.fixtures.torch_files import dict_pickle, tensor_opcodes, write_legacy, write_zip

FLOATS = np.arange(24, dtype="<f4")
TENSOR = tensor_opcodes((24,), (1,), numel=24)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"w": tensor_opcodes((25,), (1,), numel=24)}, "reaches beyond its storage"),
        ({"w": tensor_opcodes((2, 2), (1, 23), numel=24)}, "reaches beyond its storage"),
        ({"w": tensor_opcodes((2,), (-1,), offset=5, numel=24)}, "stride of a tensor is wrong"),
        ({"w": tensor_opcodes((1 << 62, 4), (0, 0), numel=24)}, "repeats its storage"),
        ({"w": tensor_opcodes((1 << 64,), (0,), numel=24)}, "shape of a tensor is wrong"),
        ({"w": tensor_opcodes((1,) * 33, (1,) * 33, numel=24)}, "at most 32"),
        ({"w": tensor_opcodes((24,), (1,), numel=23)}, "does not have the size"),
        ({"w": tensor_opcodes((24,), (1,), numel=1 << 61)}, "does not have the size"),
        ({"w": tensor_opcodes((2, 3), (1,), numel=24)}, "different numbers of strides"),
        ({"w": tensor_opcodes((24,), (1,), numel=24, key="7")}, "missing"),
        ({"w": tensor_opcodes((24,), (1,), numel=24, key="../0")}, "missing"),
        ({"w\0": tensor_opcodes((24,), (1,), numel=24)}, "not usable"),
        ({"w" * 5000: tensor_opcodes((24,), (1,), numel=24)}, "not usable"),
    ],
)
def test_refuses_wrong_numbers(items: dict[str, bytes], message: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.pt", dict_pickle(items), {"0": FLOATS.tobytes()})
    with pytest.raises(ContainerError, match=message):
        pytorch.read(path)


def test_refuses_names_that_collide(tmp_path: Path) -> None:
    one = tensor_opcodes((24,), (1,), numel=24)
    for keys in ((b"K\1", b"X\1\0\0\0001"), (b"X\3\0\0\0a.b", b"X\1\0\0\0a")):
        values = (one, b"}X\1\0\0\0b" + one + b"s" if keys[1].endswith(b"a") else one)
        pickled = b"\x80\2}(" + keys[0] + values[0] + keys[1] + values[1] + b"u."
        path = write_zip(tmp_path / "x.pt", pickled, {"0": FLOATS.tobytes()})
        with pytest.raises(ContainerError, match="same name"):
            pytorch.read(path)


def test_refuses_other_files_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(257) + b"ustar" + bytes(300))
    with pytest.raises(ContainerError, match="a tar archive of PyTorch before"):
        pytorch.read(path)
    path.write_bytes(b"\x80\2}.")
    with pytest.raises(ContainerError, match=r"not one of torch\.save"):
        pytorch.read(path)
    write_zip(path, b"\x80\2}.", extra={"archive/constants.pkl": b""})
    with pytest.raises(ContainerError, match="TorchScript"):
        pytorch.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.npy", b"")
    with pytest.raises(ContainerError, match=r"one data\.pkl"):
        pytorch.read(path)


def test_legacy_storages_must_fit(tmp_path: Path) -> None:
    pickled = dict_pickle({"w": tensor_opcodes((24,), (1,), numel=24, legacy=True)})
    path = tmp_path / "x.pt"
    raw = FLOATS.tobytes()
    for storages, message in (
        ([("0", 24, raw[:-1])], "does not fit the file"),
        ([("0", -1, raw)], "does not fit the file"),
        ([("0", 1 << 62, raw)], "does not fit the file"),
        ([("0", 23, raw)], "does not have the size"),
        ([("1", 24, raw)], "unknown or duplicated"),
        ([], "missing"),
    ):
        with pytest.raises(ContainerError, match=message):
            pytorch.read(write_legacy(path, pickled, storages))
    write_legacy(path, pickled, [("0", 24, raw + struct.pack("<I", 0))])
    assert "4 unused bytes at the end" in pytorch.read(path).oddities


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.pt", b"\x80\2cos\nsystem\n.")
    with pytest.raises(UnsafePickleError, match=r"x\.pt: the pickle names the global 'os\.system'"):
        pytorch.read(path)


def patched(path: Path, old: bytes, new: bytes, count: int = -1) -> Path:
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new, count))
    return path


def good(path: Path) -> Path:
    return write_zip(path, dict_pickle({"w": TENSOR}), {"0": FLOATS.tobytes()})


def test_zip_entries_must_be_unambiguous(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(path, dict_pickle({"w": TENSOR}), extra={"archive/data.pkl": b"N."})
    with pytest.raises(ContainerError, match="two entries are named"):
        pytorch.read(path)
    for name in ("archive/../../up", "/archive/x", "archive\\x"):
        write_zip(path, dict_pickle({"w": TENSOR}), {"0": FLOATS.tobytes()}, extra={name: b""})
        with pytest.raises(ContainerError, match="leaves the archive"):
            pytorch.read(path)
    write_zip(path, b"N.", extra={"other/data.pkl": b"N."})
    with pytest.raises(ContainerError, match=r"one data\.pkl"):
        pytorch.read(path)


def test_zip_entries_must_not_overlap(tmp_path: Path) -> None:
    path = good(tmp_path / "x.pt")
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\1\2")
    sizes = struct.unpack_from("<2I", raw, directory + 20)
    struct.pack_into("<2I", raw, directory + 20, sizes[0] + 9, sizes[1] + 9)
    path.write_bytes(raw)
    with pytest.raises(ContainerError, match="entries overlap"):
        pytorch.read(path)


def test_zip_is_checked_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    raw = good(path).read_bytes()
    for cut in (4, 30, len(raw) // 2, len(raw) - 30, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(ContainerError, match="zip archive"):
            pytorch.read(path)
    path.write_bytes(raw + b"more")
    with pytest.raises(ContainerError, match="bytes behind its end"):
        pytorch.read(path)
    flags = raw.index(b"PK\1\2") + 8
    path.write_bytes(raw[:flags] + b"\1" + raw[flags + 1 :])
    with pytest.raises(ContainerError, match="encrypted"):
        pytorch.read(path)
    patched(good(path), b"_rebuild_tensor_v2", b"_rebuild_tensor_v3")
    with pytest.raises(ContainerError, match="does not match its CRC"):
        pytorch.read(path)
    patched(good(path), b"little", b"middle")
    with pytest.raises(ContainerError, match="does not match its CRC"):
        pytorch.read(path)


def test_zip_bombs_do_not_inflate(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "x.pt", b"\x80\2" + b"N" * (65 << 20) + b".", compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(ContainerError, match="too large"):
        pytorch.read(path)
    raw = bytearray(write_zip(path, b"N" * 4096, compression=zipfile.ZIP_DEFLATED).read_bytes())
    struct.pack_into("<I", raw, raw.index(b"PK\1\2") + 24, 1 << 30)
    path.write_bytes(raw)
    with pytest.raises(ContainerError, match="declares more bytes"):
        pytorch.read(path)
    struct.pack_into("<I", raw, raw.index(b"PK\1\2") + 24, 8)
    path.write_bytes(raw)
    with pytest.raises(ContainerError, match="does not match its CRC"):
        pytorch.read(path)


def test_files_saved_without_checksums(tmp_path: Path) -> None:
    path = good(tmp_path / "x.pt")
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        sums = {entry.CRC for entry in archive.infolist()}
    for checksum in sums:
        raw = raw.replace(struct.pack("<I", checksum), bytes(4))
    path.write_bytes(raw)
    found = pytorch.read(path)
    assert found.tensors["w"].read().tolist() == FLOATS.tolist()
    assert found.oddities == ("saved without checksums, so corruption cannot be detected",)
