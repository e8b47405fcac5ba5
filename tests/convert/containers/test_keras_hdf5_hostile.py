"""Hostile Keras HDF5 files: external links and data, decompression bombs, foreign types, corrupt heaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from equipoise.convert.containers import keras_hdf5
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError

GOLDEN = Path(__file__).parent / "golden"


def keras_file(
    path: Path, fill: Callable[[h5py.Group], object], names: Any = (b"m/d/w:0",)
) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"d"]
        group = file.create_group("d")
        group.attrs["weight_names"] = list(names)
        fill(group)
    return path


def external(group: h5py.Group, folder: Path) -> None:
    (folder / "outside").write_bytes(bytes(8))
    group.create_dataset("m/d/w:0", (2,), "f4", external=[(str(folder / "outside"), 0, 8)])


def virtual(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["w"] = np.zeros(2, np.float32)
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "w", (2,))
    group.create_virtual_dataset("m/d/w:0", layout)


def linked_group(group: h5py.Group, folder: Path) -> None:
    group["m"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


def bomb(group: h5py.Group, folder: Path) -> None:
    data = group.create_dataset("m/d/w:0", (2**20,), "f4", chunks=(2**10,), compression="gzip")
    data[:8] = 1


def soft(group: h5py.Group, folder: Path) -> None:
    group["w"] = np.zeros(2, np.float32)
    group["m/d/w:0"] = h5py.SoftLink("/d/w")


def cyclic(group: h5py.Group, folder: Path) -> None:
    group.create_group("m/d")["w:0"] = group


HOSTILE: dict[str, Callable[[h5py.Group, Path], object]] = {
    "missing": lambda group, folder: None,
    "a group": lambda group, folder: group.create_group("m/d/w:0"),
    "cyclic": cyclic,
    "soft link": soft,
    "external link": lambda group, folder: group.update({"m/d/w:0": h5py.ExternalLink("x", "/")}),
    "external group": linked_group,
    "external storage": external,
    "virtual": virtual,
    "terabyte": lambda group, folder: group.create_dataset("m/d/w:0", (2**38,), "f4"),
    "chunked terabyte": lambda group, folder: group.create_dataset(
        "m/d/w:0", (2**38,), "f4", chunks=(2**20,)
    ),
    "unwritten chunks": bomb,
    "null": lambda group, folder: group.update({"m/d/w:0": h5py.Empty("f4")}),
    "lzf": lambda group, folder: group.create_dataset(
        "m/d/w:0", data=np.zeros(9), compression="lzf"
    ),
}


@pytest.mark.parametrize("fill", HOSTILE.values(), ids=HOSTILE.keys())
def test_data_outside_of_the_file_is_refused(
    fill: Callable[[h5py.Group, Path], object], tmp_path: Path
) -> None:
    path = keras_file(tmp_path / "a.h5", lambda group: fill(group, tmp_path))
    with pytest.raises(ContainerError) as caught:
        keras_hdf5.read(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    "dtype",
    [
        *("V1", "V3", "S4", h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype(np.int8)),
        *(np.dtype([("a", "f4")]), np.dtype(("f4", (3,))), h5py.enum_dtype({"a": 1}), "longdouble"),
    ],
    ids=str,
)
def test_types_that_are_no_numbers_are_refused_by_name(dtype: Any, tmp_path: Path) -> None:
    path = keras_file(tmp_path / "a.h5", lambda group: group.create_dataset("m/d/w:0", (2,), dtype))
    with pytest.raises(UnsupportedDtypeError) as caught:
        keras_hdf5.read(path)
    assert caught.value.tensor == "m/d/w:0"


@pytest.mark.parametrize(
    "names",
    [[b"../d/w"], [b"/d/w"], [b"m//w"], [b""], [b"./w"], [b"w", b"w"], [b"w/x"]],
    ids=repr,
)
def test_unsafe_or_duplicate_names_are_refused(names: list[bytes], tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        group["w"] = np.zeros(2, np.float32)

    with pytest.raises(ContainerError):
        keras_hdf5.read(keras_file(tmp_path / "a.h5", fill, names))


@pytest.mark.parametrize(
    "value",
    [3, 2.5, [1, 2], "d", np.array([["d"]], "S1"), h5py.Empty("f4"), h5py.Empty("S1"), None],
    ids=repr,
)
def test_attributes_of_another_type_are_refused(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        if value is not None:
            file.attrs["layer_names"] = value
    with pytest.raises(ContainerError):
        keras_hdf5.read(path)


def test_layers_mixed_with_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        file["a"] = np.zeros(2)
        file.create_group("b").attrs["weight_names"] = []
    with pytest.raises(ContainerError, match="mixed"):
        keras_hdf5.read(path)


def test_a_corrupt_heap_on_which_libhdf5_hangs(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    data = bytearray((GOLDEN / "keras_bert.h5").read_bytes())
    # One bit in the size of the heap's last text: h5py 3.14 and 3.16 loop forever on it.
    heap = data.index(b"GCOL")
    data[data.rindex(b"tf_bert_model", heap, heap + 4096) - 7] ^= 4
    path.write_bytes(data)
    assert list(keras_hdf5.read(path).tensors) == list(
        keras_hdf5.read(GOLDEN / "keras_bert.h5").tensors
    )


def test_a_text_beyond_its_heap_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    data = bytearray((GOLDEN / "keras_bert.h5").read_bytes())
    data[data.index(b"tf_bert_model", data.index(b"GCOL")) - 6] ^= 4
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="heap"):
        keras_hdf5.read(path)
