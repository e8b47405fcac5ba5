"""The memory of a conversion with many tiny tensors, and what its manifest says of them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from safetensors import safe_open
from safetensors.numpy import save_file

from equipoise.convert import convert

MANY = 300_000
MAX_BYTES = 600e6
SHAPE = (4, 2)

CONVERT = """
import sys
from equipoise.convert import convert
convert(sys.argv[1], sys.argv[2], to=sys.argv[3])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def write_many(folder: Path, count: int) -> Path:
    """Writes tensors that hold their own numbers."""
    folder.mkdir()
    tensors = {name_of(i): np.full(SHAPE, i, np.float32) for i in range(count)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def name_of(index: int) -> str:
    return f"model.layers.{index // 10}.block.{index % 10}.weight"


def peak_of_conversion(source: Path, output: Path, to: str) -> int:
    """Converts in another process; returns its largest resident memory in bytes."""
    command = [sys.executable, "-c", CONVERT, str(source), str(output), to]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_of_many_tensors(tmp_path: Path) -> None:
    source = write_many(tmp_path / "source", MANY)
    assert peak_of_conversion(source, tmp_path / "bin", "pytorch-bin") < MAX_BYTES
    order = sorted(name_of(index) for index in range(MANY))
    with zipfile.ZipFile(tmp_path / "bin" / "pytorch_model.bin") as archive:
        assert len(archive.namelist()) > MANY
        for index in (0, 17, MANY - 1):
            stored = archive.read(f"archive/data/{order.index(name_of(index))}")
            assert stored == np.full(SHAPE, index, np.float32).tobytes()


def test_a_manifest_of_several_files(tmp_path: Path) -> None:
    """Each tensor has a line, with the hash of its bytes and the file that holds it."""
    source = write_many(tmp_path / "source", 50)
    made = convert(source, tmp_path / "out", to="pytorch", max_shard_size=1000)
    text = (tmp_path / "out" / "equipoise.json").read_text()
    values = json.loads(text)
    files = list(values["target"]["files"])
    assert len(files) == 2
    assert list(values["tensors"]) == sorted(name_of(i) for i in range(50))
    for index in range(50):
        record = values["tensors"][name_of(index)]
        with safe_open(tmp_path / "out" / record["file"], "np") as file:
            assert record["blake3"] == blake3(file.get_tensor(name_of(index)).tobytes()).hexdigest()
        assert record["shape"] == list(SHAPE)
        assert made.values["tensors"][name_of(index)] == record
        assert f'\n  "{name_of(index)}": {json.dumps(record)}' in text
