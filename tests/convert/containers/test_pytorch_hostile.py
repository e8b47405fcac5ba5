"""Hostile PyTorch files: nothing is executed, nothing hangs, and the error names the problem."""

import os
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.containers import pytorch
from equipoise.convert.core.errors import ContainerError, UnsafePickleError
from equipoise.fixtures.torch_files import dict_pickle, tensor_opcodes, write_legacy, write_zip

FLOATS = np.arange(24, dtype="<f4")


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_nothing_is_executed(write: Callable[..., Path], protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    calls = {
        f"{os.name}.system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(exec, f"open({str(marker)!r}, 'w')"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "__import__": Call(__import__, "os"),
        "open": Call(open, str(marker), "w"),
        "Path.touch": Call(Path.touch, Path(marker)),
    }
    for name, call in calls.items():
        path = write(tmp_path / "x.pt", pickle.dumps({"w": call}, protocol))
        with pytest.raises(UnsafePickleError, match="nothing was executed") as caught:
            pytorch.read(path)
        words = (
            ("getattr", "__import__")
            if name == "getattr"
            else (name.split(".")[-1], "Path", "getattr")
        )
        assert any(word in caught.value.message for word in words), caught.value.message
    assert not marker.exists()


TENSOR = tensor_opcodes((24,), (1,), numel=24)


@pytest.mark.parametrize(
    ("opcodes", "named"),
    [
        (b"cos\nsystem\n(X\2\0\0\0lstR", "os.system"),
        (b"c__builtin__\neval\n", "__builtin__.eval"),
        (b"ctorch\nload\n", "torch.load"),
        (b"ctorch.storage\n_load_from_bytes\n", "torch.storage._load_from_bytes"),
        (b"ctorch\nserialization.os.system\n", "torch.serialization.os.system"),
        (b"\x8c\x05torch\x8c\x17_utils.os.system.__call\x93", "torch._utils.os.system"),
        (b"\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93", "OrderedDict.__class__"),
        (b"ctorch.jit\n_load\n", "torch.jit._load"),
        (b"ctorch.nn.modules.linear\nLinear\n)\x81", "torch.nn.modules.linear.Linear"),
        (b"(X\2\0\0\0lsios\nsystem\n", "os.system"),
        (b"\x82\1", "extension registry"),
        (b"\x83\1\0", "extension registry"),
        (b"\x84\1\0\0\0", "extension registry"),
        (b"c" + b"a" * 3000 + b"\nb\n", "aaaa"),
    ],
)
def test_the_error_names_the_global(opcodes: bytes, named: str, tmp_path: Path) -> None:
    for pickled in (b"\x80\4" + opcodes + b".", dict_pickle({"ok": TENSOR, "w": opcodes})):
        path = write_zip(tmp_path / "x.pt", pickled, {"0": FLOATS.tobytes()})
        with pytest.raises(UnsafePickleError) as caught:
            pytorch.read(path)
        assert named in caught.value.message
        assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "opcodes",
    [
        b"X\2\0\0\0ls)R",  # a text is called
        TENSOR + b")R",
        b"ctorch\nfloat32\n)R",
        b"ctorch\nFloatStorage\n)\x81",
        b"ccollections\nOrderedDict\n]R",
        b"ccollections\nOrderedDict\n)}X\1\0\0\0aNs\x92",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NK\0))tR",
        b"ctorch._utils\n_rebuild_parameter\n(K\1tR",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nOrderedDict\nNNtR",
        b"NQ",
        b"(X\6\0\0\0moduletQ",
        b"Pstorage\n",
        b"K\1K\2s",
        b"]K\1K\2s",
        b"}K\1a",
        b"h\7",
        b"g999\n",
        b"Np99999999999999\n",
        b"I" + b"9" * 5000 + b"\n",
        b"Ix\n",
        b"X\xff\xff\xff\xffa",
        b"\x8d" + b"\xff" * 8,
        b"\x8e" + b"\xff" * 7 + b"\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"X\1\0\0\0\xff",
        b"0" * 5,
        b"t",
        b"\x80\x63",
        b"\x97",
        b"\x98",
        b"\x00",
        b"S'x'\n",
    ],
)
def test_damaged_pickles(opcodes: bytes, tmp_path: Path) -> None:
    pickled = b"\x80\2}X\1\0\0\0k" + opcodes + b"s."
    for path in (
        write_zip(tmp_path / "x.pt", pickled, {"0": FLOATS.tobytes()}),
        write_legacy(tmp_path / "y.pt", pickled),
    ):
        with pytest.raises(ContainerError):
            pytorch.read(path)


def test_state_for_a_stand_in_is_dropped(tmp_path: Path) -> None:
    state = b"}X\x09\0\0\0__class__X\1\0\0\0xsb"
    for opcodes in (TENSOR, b"ctorch\nfloat32\n", b"ctorch._utils\n_rebuild_tensor_v2\n"):
        path = write_zip(
            tmp_path / "x.pt",
            dict_pickle({"w": opcodes + state, "v": TENSOR}),
            {"0": FLOATS.tobytes()},
        )
        assert pytorch.read(path).tensors["v"].read().tolist() == FLOATS.tolist()


def laughs(levels: int, opener: bytes, closer: bytes) -> bytes:
    """A pickle whose every level contains the one below ten times ("billion laughs")."""
    body = opener + TENSOR + closer
    for level in range(levels):
        body += b"q" + bytes([level]) + b"0" + opener + (b"h" + bytes([level])) * 10 + closer
    return b"\x80\2}X\1\0\0\0a" + body + b"s."


def nested_dicts(levels: int) -> bytes:
    body = b"}X\1\0\0\0x" + TENSOR + b"s"
    for level in range(levels):
        keys = b"".join(b"K" + bytes([key]) + b"h" + bytes([level]) for key in range(10))
        body += b"q" + bytes([level]) + b"0}(" + keys + b"u"
    return b"\x80\2}X\1\0\0\0a" + body + b"s."


BOMBS = {
    "lists of lists": laughs(60, b"](", b"e"),
    "tuples of tuples": laughs(60, b"(", b"t"),
    "dicts of dicts": nested_dicts(40),
    "a tuple as a key": b"\x80\2}" + b"(" + b"N)\x86" + b"q\0h\0\x86" * 90 + b"tNs" + b".",
    "a very deep list": b"\x80\2" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "a very deep tuple": b"\x80\2)" + b"\x85" * 200_000 + b".",
    "a very deep key": b"\x80\2})" + b"\x85" * 200_000 + b"Ns.",
    "a list in itself": b"\x80\2]q\0h\0a.",
    "a dict in itself": b"\x80\2}q\0X\1\0\0\0ah\0s.",
    "a huge memo index": b"\x80\2Nr\xff\xff\xff\x7f" * 1000 + b".",
    "copies of pairs": b"\x80\2]("
    + b"N)\x86q\0"
    + b"h\0" * 20_000
    + b"eq\1"
    + b"ccollections\nOrderedDict\nq\2"
    + b"h\2h\1\x85R" * 20_000
    + b".",
    "the same list ever again": b"\x80\2](" + b"N" * 60_000 + b"eq\0](" + b"h\0" * 30_000 + b"e.",
    "colliding integers": b"\x80\2}("
    + b"".join(
        b"\x8a\x0c" + (n * ((1 << 61) - 1)).to_bytes(12, "little") + b"N" for n in range(20_000)
    )
    + b"u.",
    "long names": b"\x80\2X\xa0\x0f\0\0"
    + b"k" * 4000
    + b"q\0}("
    + b"".join(b"J" + struct.pack("<i", n) + b"}h\0Ns" for n in range(40_000))
    + b"u.",
}


@pytest.mark.parametrize("name", sorted(BOMBS))
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_decompression_bombs_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    raw = FLOATS.tobytes()
    if kind == "zip":
        path = write_zip(tmp_path / "x.pt", BOMBS[name], {"0": raw})
    else:
        path = write_legacy(
            tmp_path / "x.pt", BOMBS[name], [("0", 24, raw)] * (b"Q" in BOMBS[name])
        )
    tracemalloc.start()
    started = time.monotonic()
    try:
        found = pytorch.read(path)
        assert not found.tensors
    except ContainerError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 400 << 20
    assert time.monotonic() - started < 30  # a bomb would take hours


def deflated(path: Path, records: dict[str, bytes]) -> Path:
    """Writes a zip archive with compressed records."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(f"x/{name}", data)
    return path


def test_a_compressed_storage_is_decompressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tensors are views of each of two storages; they are read in turns."""
    tensors = {
        f"{key}.{row}": tensor_opcodes((3,), (1,), key=key, offset=3 * row, numel=30)
        for row in range(10)
        for key in ("a", "b")
    }
    floats = {key: np.arange(30, dtype="<f4") + start for key, start in (("a", 0), ("b", 100))}
    data = {f"data/{key}": array.tobytes() for key, array in floats.items()}
    path = deflated(tmp_path / "x.pt", {"data.pkl": dict_pickle(tensors), **data})
    container = pytorch.read(path)
    calls = []
    original = zlib.decompressobj

    def count(bits: int) -> object:
        calls.append(bits)
        return original(bits)

    monkeypatch.setattr(zlib, "decompressobj", count)
    for name, ref in container.tensors.items():
        key, _, row = name.partition(".")
        assert ref.read().tolist() == floats[key][3 * int(row) :][:3].tolist()
    assert len(calls) == 2


def test_a_compressed_pickle_grows_by_a_limited_factor(tmp_path: Path) -> None:
    pickled = b"\x80\2" + b"]0" * (8 << 20) + b"}."
    path = deflated(tmp_path / "x.pt", {"data.pkl": pickled})
    assert path.stat().st_size < 20_000
    with pytest.raises(ContainerError, match=r"data\.pkl' is too large"):
        pytorch.read(path)


@pytest.mark.parametrize("opcode", [b"]", b"}", b"\x8f", b"(d", b"N\x85", b"N\x94"])
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_pickle_of_tiny_objects_takes_little_memory(
    write: Callable[..., Path], opcode: bytes, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.pt", b"\x80\2" + opcode * 500_000 + b".")
    tracemalloc.start()
    try:
        with pytest.raises(ContainerError, match="too many tiny objects"):
            pytorch.read(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * path.stat().st_size
    finally:
        tracemalloc.stop()
