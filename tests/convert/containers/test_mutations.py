"""Corrupt files: any bytes yield a ``ContainerError`` or a valid container."""

from __future__ import annotations

import faulthandler
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.convert.containers import container_module, container_names
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.tensor import TensorHeader, array_blocks
from equipoise.fixtures.t5x_checkpoints import GZIP, write_t5x

NAMES = [
    name
    for name in container_names()
    if hasattr(container_module(name), "Writer") and not hasattr(container_module(name), "FILENAME")
]
TENSORS = {
    "m/d/kernel:0": np.arange(12, dtype=np.float32).reshape(3, 4),
    "m/d/bias:0": np.ones(4, np.float16),
    "m/e/scalar:0": np.array(3, np.int64),
    "m/e/empty:0": np.zeros((0, 2), np.float32),
}
SECONDS, BYTES = 5, 1 << 30
WORDS = [b"\0" * 8, b"\xff" * 8, (2**40).to_bytes(8, "little"), (2**31 - 1).to_bytes(8, "big")]

Edit = tuple[str, int, int]
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "word", "delete", "insert", "cut"]),
        st.integers(0, 2**32),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, changes: list[Edit]) -> bytes:
    out = bytearray(data)
    for kind, position, value in changes:
        at = position % (len(out) + 1)
        if kind == "flip" and at < len(out):
            out[at] ^= 1 << value % 8
        elif kind == "set" and at < len(out):
            out[at] = value
        elif kind == "word":
            out[at : at + 8] = WORDS[value % len(WORDS)]
        elif kind == "delete":
            del out[at : at + 1 + value % 8]
        elif kind == "insert":
            out[at:at] = bytes([value]) * (1 + value % 5)
        elif kind == "cut":
            del out[at:]
    return bytes(out)


@contextmanager
def limits() -> Iterator[None]:
    """Turns hangs and allocations far beyond the file into failures."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer in {SECONDS} seconds")

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


GOLDEN = Path(__file__).parent / "golden"
FOLDERS = {
    "distributed_checkpoint": (GOLDEN / "dcp" / "grid", ".metadata"),
    "deepspeed_zero": (
        GOLDEN / "zero" / "stage3_bf16" / "global_step2",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
    ),
    "distributed_checkpoint fsdp": (GOLDEN / "dcp" / "fsdp", ".metadata"),
    "deepspeed_zero stage1": (
        GOLDEN / "zero" / "stage1_fp32" / "global_step2",
        "zero_pp_rank_0_mp_rank_00_optim_states.pt",
    ),
    "keras3": (GOLDEN / "keras3", "model.keras"),
    "keras3 shards": (GOLDEN / "keras3", "shards.weights.json"),
    "orbax": (GOLDEN / "orbax" / "ocdbt", "_METADATA"),
    "orbax zarr": (GOLDEN / "orbax" / "zarr", "_METADATA"),
    "orbax zarr3": (GOLDEN / "orbax" / "zarr3", "_METADATA"),
    "t5x_checkpoint": (None, "checkpoint"),
    "t5x_checkpoint gzip": (None, "checkpoint"),
}
"""Container of several files -> a folder that its framework wrote, or None for one that is written here, and the file that stands for it."""


def check(module: Any, path: Path) -> None:
    assert module.sniff(path) in (True, False)
    try:
        container = module.read(path)
        for name, ref in container.tensors.items():
            array = ref.read()
            assert name == ref.name
            assert (array.shape, array.dtype) == (ref.shape, ref.dtype)
            assert sum(len(block) for block in ref.blocks()) == ref.nbytes
    except (ContainerError, CheckpointError):
        return


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_mutated_files(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    module: Any = container_module(name)
    path = tmp_path_factory.mktemp(name) / f"weights{module.SUFFIXES[0]}"
    headers = [TensorHeader(key, value.dtype, value.shape) for key, value in TENSORS.items()]
    with module.Writer(path, headers, {}) as writer:
        for key, value in TENSORS.items():
            writer.write(key, array_blocks(value))
    assert set(module.read(path).tensors) == set(TENSORS)

    mutate(module, path, [path], 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_mutated_folders(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    source, entry = FOLDERS[name]
    container, _, kind = name.partition(" ")
    folder = tmp_path_factory.mktemp(container) / "folder"
    if source is not None:
        shutil.copytree(source, folder)
    else:
        pytest.importorskip("tensorstore")
        pytest.importorskip("flax")
        tensors = {key.replace(":", "_"): one for key, one in TENSORS.items() if one.size}
        small = frozenset({"m/e/scalar_0"})
        write_t5x(folder, tensors, small=small, compressor=GZIP if kind else None, state=False)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if container == "keras3":  # the folder holds several models
        files = [one for one in files if one.name.startswith(entry.partition(".")[0])]
    mutate(container_module(container), folder / entry, files, 300)


def mutate(module: Any, entry: Path, files: list[Path], times: int) -> None:
    """Changes one of the files of a checkpoint so many times, and reads the whole each time."""
    contents = {path: path.read_bytes() for path in files}

    @settings(
        max_examples=times,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(files), edits)
    def run(path: Path, changes: list[Edit]) -> None:
        path.write_bytes(mutated(contents[path], changes))
        try:
            with limits():
                check(module, entry)
        finally:
            path.write_bytes(contents[path])

    # A hang in a C library does not receive the alarm; the process must end itself.
    faulthandler.dump_traceback_later(120, exit=True)
    try:
        run()
    finally:
        faulthandler.cancel_dump_traceback_later()
