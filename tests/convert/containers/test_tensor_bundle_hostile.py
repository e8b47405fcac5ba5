"""Corrupt and hostile TensorFlow checkpoints: every problem raises an error that names it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.convert.containers import tensor_bundle
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.fixtures.bundles import (
    HEADER,
    encode_block,
    encode_entry,
    write_bundle,
    write_table,
)

GOLDEN = Path(__file__).parent / "golden" / "bundle"
FLOATS = np.arange(24, dtype="<f4")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({b"w": encode_entry((4, 6), 96, offset=1)}, "ends before its tensors do"),
        ({b"w": encode_entry((4, 6), 1 << 62)}, "ends before its tensors do"),
        ({b"w": encode_entry((5, 6), 96)}, "do not match the shape"),
        ({b"w": encode_entry((1 << 62, 1 << 62), 96)}, "do not match the shape"),
        ({b"w": encode_entry((1 << 63,), 96)}, "is not a non-negative integer"),
        ({b"w": encode_entry((1,) * 33, 4)}, "more than 32 axes"),
        ({b"w": encode_entry((4, 6), 96, shard=1)}, "a data file beyond its number of data files"),
        ({b"v": encode_entry((2,), 8), b"w": encode_entry((2,), 8, offset=4)}, "tensors overlap"),
        ({b"w": encode_entry((2,), 2, dtype=11)}, "unsupported dtype 'qint8'"),
        ({b"w": encode_entry((2,), 1, dtype=29)}, "unsupported dtype 'int4'"),
        ({b"w": encode_entry((2,), 1, dtype=99)}, "unsupported dtype 'number 99"),
        ({b"w": b"\x08\x01\x12\xff"}, "varint|truncated"),
        ({b"w": b"\x0b"}, "unknown type"),
        ({b"w\0": encode_entry((2,), 8)}, "null character"),
        ({b"w\xff": encode_entry((2,), 8)}, "is not UTF-8"),
        ({b"_CHECKPOINTABLE_OBJECT_GRAPH": encode_entry((), 8)}, "object graph is not a string"),
        (
            {b"_CHECKPOINTABLE_OBJECT_GRAPH": encode_entry((), 8, dtype=7)},
            "string tensor is corrupt",
        ),
    ],
)
def test_refuses_wrong_numbers(entries: dict[bytes, bytes], message: str, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "x.index", entries, FLOATS.tobytes())
    with pytest.raises(ContainerError, match=message) as caught:
        tensor_bundle.read(path)
    assert caught.value.file is not None


def test_refuses_unsupported_dtypes_but_leaves_out_handles(tmp_path: Path) -> None:
    path = write_bundle(
        tmp_path / "x.index", {b"w": encode_entry((2,), 2, dtype=11)}, FLOATS.tobytes()
    )
    with pytest.raises(UnsupportedDtypeError):
        tensor_bundle.read(path)
    write_bundle(path, {b"h": encode_entry((), 0, dtype=20)}, b"")
    assert tensor_bundle.read(path).left_out == {"h": "resource, not numeric"}


def test_refuses_corrupt_tables(tmp_path: Path) -> None:
    path = tmp_path / "x.index"
    for entries, message in (
        ([], "is empty"),
        ([(b"w", encode_entry((2,), 8))], "no header"),
        ([(b"", b"\x0a\x00")], "version 1"),
        ([(b"", HEADER), (b"w", b""), (b"w", b"")], "is duplicated"),
        ([(b"", HEADER), (b"w", b""), (b"v", b"")], "out of order"),
        ([(b"", HEADER), (b"w" * 9000, b"")], "a block is corrupt"),
        ([(b"", b"")], "header of the index is corrupt"),
    ):
        write_table(path, entries)
        with pytest.raises(ContainerError, match=message):
            tensor_bundle.read(path)
    write_table(path, [(b"", HEADER)], kind=4)
    with pytest.raises(ContainerError, match="unknown compression"):
        tensor_bundle.read(path)
    raw = bytearray(write_table(path, [(b"", HEADER)]).read_bytes())
    raw[2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ContainerError, match="does not match its CRC"):
        tensor_bundle.read(path)
    for cut in (raw[:-1], raw[-40:], b""):
        path.write_bytes(cut)
        with pytest.raises(ContainerError, match="truncated"):
            tensor_bundle.read(path)
    assert len(encode_block([])) == 8


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"w/part_0": (2, 3), "w/part_2": (2, 3)}, "part_1 of the variable is missing"),
        ({"w/part_0": (2, 3), "w/part_1": (3, 4)}, "do not fit together"),
        ({"w/part_0": (2, 3), "w/part_1": (6,)}, "do not fit together"),
        ({"w/part_0": (), "w/part_1": ()}, "do not fit together"),
    ],
)
def test_refuses_parts_that_do_not_fit(
    shapes: dict[str, tuple[int, ...]], message: str, tmp_path: Path
) -> None:
    entries, data = {}, b""
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        entries[name.encode()] = encode_entry(shape, size, offset=len(data))
        data += bytes(size)
    path = write_bundle(tmp_path / "model.index", entries, data)
    with pytest.raises(ContainerError, match=message):
        tensor_bundle.read(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    golden=st.sampled_from(
        ["keras.ckpt", "partitioned.ckpt", "parts.ckpt", "tf1_adam.ckpt", "dtypes.ckpt"]
    ),
    checked=st.booleans(),
    at=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 20),
    put=st.binary(max_size=12),
    in_data=st.booleans(),
)
def test_only_container_errors_are_raised(
    golden: str,
    checked: bool,
    at: float,
    cut: int,
    put: bytes,
    in_data: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in GOLDEN.glob(f"{golden}.*"):
        shutil.copy(path, tmp_path)
    path = tmp_path / f"{golden}.index"
    target = tmp_path / f"{golden}.data-00000-of-00001" if in_data else path
    raw = target.read_bytes()
    start = int(at * len(raw))
    target.write_bytes(raw[:start] + put + raw[start + cut :])
    with monkeypatch.context() as patch:
        if not checked:  # otherwise the CRC of a block refuses nearly every file
            always = type("Always", (), {"__ne__": lambda self, other: False})
            patch.setattr(
                "equipoise.convert.containers._bundle.sorted_table.masked_crc32c",
                lambda raw: always(),
            )
        try:
            for tensor in tensor_bundle.read(path).tensors.values():
                assert tensor.read().shape == tensor.shape
        except ContainerError:
            pass
