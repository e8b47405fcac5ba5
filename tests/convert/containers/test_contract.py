"""Every container module fulfils the contract in ``convert/containers/__init__.py``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from equipoise.convert.containers import container_module, container_names
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import DTYPES, TensorHeader, array_blocks

NAMES = container_names()
MODULES = [container_module(name) for name in NAMES]
WRITERS = [module for module in MODULES if hasattr(module, "Writer")]
every_module = pytest.mark.parametrize("module", MODULES, ids=NAMES)
every_writer = pytest.mark.parametrize(
    "module", WRITERS, ids=[module.__name__.rpartition(".")[2] for module in WRITERS]
)


def file_of(module: ModuleType, folder: Path) -> Path:
    """Returns the file that stands for a checkpoint, alone in a folder if it has a name of its own."""
    return folder / getattr(module, "FILENAME", f"weights{module.SUFFIXES[0]}")


def write(module: Any, path: Path, tensors: dict[str, Any]) -> None:
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in tensors.items()]
    with module.Writer(path, headers, {}) as writer:
        for name, value in tensors.items():
            writer.write(name, array_blocks(value))


def values_of(dtype: np.dtype[Any]) -> Any:
    pattern = np.arange(6 * dtype.itemsize, dtype=np.uint8) * 37
    if dtype == np.bool_:
        pattern %= 2
    return pattern.view(dtype).reshape(2, 3)


@every_module
def test_holds_what_the_registry_looks_for(module: Any) -> None:
    assert module.SUFFIXES
    own = getattr(module, "FILENAME", None)
    assert all(one.startswith((".", "_")) or one == own for one in module.SUFFIXES)
    assert callable(module.sniff)
    assert callable(module.read)


@every_module
@pytest.mark.parametrize(
    "content", [b"", b"\0", b"x" * 7, b"version https://git-lfs", b"\xff" * 999]
)
def test_foreign_bytes_are_not_recognised_and_are_refused(
    module: Any, content: bytes, tmp_path: Path
) -> None:
    path = file_of(module, tmp_path)
    path.write_bytes(content)
    assert module.sniff(path) is False
    with pytest.raises(ContainerError):
        module.read(path)


@every_module
def test_a_missing_file_is_the_systems_error(module: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        module.sniff(tmp_path / "absent")


@every_writer
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_or_is_refused_by_name(
    module: Any, name: str, tmp_path: Path
) -> None:
    path = file_of(module, tmp_path)
    tensors = {"m/a:0": values_of(DTYPES[name])}
    try:
        write(module, path, tensors)
    except UnsupportedDtypeError as error:
        assert error.tensor == "m/a:0"  # noqa: PT017 (a dtype may also be accepted)
        assert name not in getattr(module, "WRITABLE_DTYPES", ())
        return
    assert name in getattr(module, "WRITABLE_DTYPES", DTYPES)
    ref = module.read(path).tensors["m/a:0"]
    assert (ref.dtype, ref.shape) == (DTYPES[name], (2, 3))
    assert ref.read().dtype == DTYPES[name]
    assert ref.read().tobytes() == tensors["m/a:0"].tobytes()
    assert b"".join(bytes(block) for block in ref.blocks()) == tensors["m/a:0"].tobytes()


@every_writer
def test_shapes_order_and_values_come_back(module: Any, tmp_path: Path) -> None:
    path = file_of(module, tmp_path)
    tensors = {
        "m/z": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "m/scalar": np.array(7.5, np.float64),
        "m/empty": np.zeros((0, 5), np.float32),
        "m/a": np.arange(3, dtype=np.int64),
        "m/one": np.ones((1, 1, 1), np.float16),
    }
    if not getattr(module, "CAN_HOLD_EMPTY_TENSORS", True):
        with pytest.raises(ContainerError, match="without elements"):
            write(module, path, tensors)
        del tensors["m/empty"]
    write(module, path, tensors)
    assert module.sniff(path) is True
    container = module.read(path)
    assert container.format == module.__name__.rpartition(".")[2]
    assert container.path == path
    assert set(container.tensors) == set(tensors)
    for name, value in tensors.items():
        ref = container.tensors[name]
        assert (ref.name, ref.shape, ref.dtype) == (name, value.shape, value.dtype)
        np.testing.assert_array_equal(ref.read(), value)
        assert ref.read().flags.c_contiguous


@every_writer
def test_the_same_input_makes_the_same_file(module: Any, tmp_path: Path) -> None:
    first, second = (file_of(module, tmp_path / name) for name in "ab")
    for path in (first, second):
        path.parent.mkdir()
        write(module, path, {"m/a": np.arange(5, dtype=np.float32)})
    assert first.read_bytes() == second.read_bytes()


@every_writer
def test_blocks_of_any_size_fill_a_tensor(module: Any, tmp_path: Path) -> None:
    path = file_of(module, tmp_path)
    value = np.arange(100, dtype=np.float32)
    with module.Writer(path, [TensorHeader("m/a", value.dtype, value.shape)], {}) as writer:
        writer.write("m/a", array_blocks(value, 7))
    np.testing.assert_array_equal(module.read(path).tensors["m/a"].read(), value)


@pytest.mark.parametrize(
    "module", [one for one in WRITERS if not hasattr(one.Writer, "further_files")]
)
def test_final_bytes_do_not_change(module: Any, tmp_path: Path) -> None:
    path = file_of(module, tmp_path)
    values = {f"m/{i}/a": np.arange(n, dtype=np.float32) for i, n in enumerate((3, 0, 40, 1))}
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in values.items()]
    settled = []
    with module.Writer(path, headers, {}) as writer:
        for name, value in values.items():
            settled.append(path.read_bytes()[: writer.finished_bytes])
            assert len(settled[-1]) == writer.finished_bytes
            writer.write(name, array_blocks(value))
        settled.append(path.read_bytes()[: writer.finished_bytes])
    content = path.read_bytes()
    assert all(content.startswith(part) for part in settled)
    assert [len(part) for part in settled] == sorted(len(part) for part in settled)
    assert len(settled[-1]) > len(settled[0])


@every_writer
@pytest.mark.parametrize("count", [0, 11, 13])
def test_bytes_that_do_not_match_the_shape_are_refused(
    module: Any, count: int, tmp_path: Path
) -> None:
    header = TensorHeader("m/a", np.dtype(np.float32), (3,))
    with (
        pytest.raises(ContainerError) as caught,
        module.Writer(file_of(module, tmp_path), [header], {}) as writer,
    ):
        writer.write("m/a", [memoryview(bytes(count))])
    assert caught.value.tensor == "m/a"


@every_writer
def test_tensors_out_of_order_and_missing_ones_are_refused(module: Any, tmp_path: Path) -> None:
    headers = [TensorHeader(name, np.dtype(np.int8), (1,)) for name in ("m/a", "m/b")]
    path = file_of(module, tmp_path)
    with pytest.raises(ContainerError), module.Writer(path, headers, {}) as writer:
        writer.write("m/b", [memoryview(b"1")])
    with pytest.raises(ContainerError), module.Writer(path, headers, {}) as writer:
        writer.write("m/a", [memoryview(b"1")])


@every_writer
def test_an_error_inside_goes_through_unchanged(module: Any, tmp_path: Path) -> None:
    header = TensorHeader("m/a", np.dtype(np.float32), (3,))
    with (
        pytest.raises(KeyError, match="mine"),
        module.Writer(file_of(module, tmp_path), [header], {}),
    ):
        raise KeyError("mine")


@every_writer
@pytest.mark.parametrize("names", [("a", "a"), ("",), ("a/../b",), ("a\0b",)])
def test_bad_names_are_refused_before_writing(
    module: Any, names: tuple[str, ...], tmp_path: Path
) -> None:
    headers = [TensorHeader(name, np.dtype(np.int8), (1,)) for name in names]
    with pytest.raises(ContainerError):
        module.Writer(file_of(module, tmp_path), headers, {})


@every_writer
def test_an_alias_is_shared_or_refused(module: Any, tmp_path: Path) -> None:
    path = file_of(module, tmp_path)
    value = np.arange(3, dtype=np.float32)
    first = TensorHeader("m/a", value.dtype, value.shape)
    alias = TensorHeader("m/b", value.dtype, value.shape, alias_of="m/a")
    if getattr(module, "CAN_SHARE_TENSORS", True) is False:
        with pytest.raises(ContainerError):
            module.Writer(path, [first, alias], {})
        return
    with module.Writer(path, [first, alias], {}) as writer:
        writer.write("m/a", array_blocks(value))
    tensors = module.read(path).tensors
    np.testing.assert_array_equal(tensors["m/b"].read(), value)
    assert tensors["m/a"].identity == tensors["m/b"].identity
    assert tensors["m/a"].identity is not None


@every_writer
def test_every_truncation_is_refused(module: Any, tmp_path: Path) -> None:
    path = file_of(module, tmp_path)
    write(module, path, {"m/a": np.arange(9, dtype=np.float32), "m/b": np.ones(3, np.int8)})
    content = path.read_bytes()
    for size in {*range(0, len(content), max(1, len(content) // 60)), len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(ContainerError):
            module.read(path)
