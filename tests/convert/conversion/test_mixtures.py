"""No output holds tensors of two models: the source is overwritten, replaced, or a finished shard is damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from equipoise.convert import convert, open_checkpoint, plan
from equipoise.convert.checkpoints import checkpoint as checkpoint_module
from equipoise.convert.conversion import execute
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.files.identity import FileIdentity
from equipoise.fixtures.synthetic import write_small_bert

SHARD = 6000
WEIGHTS = "model.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_small_bert(tmp_path / "source")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model of the same class and size with other values."""
    return write_small_bert(tmp_path / "other", seed=1)


def tensors(folder: Path) -> dict[str, bytes]:
    return {
        name: value.tobytes()
        for path in folder.glob("*.safetensors")
        for name, value in load_file(path).items()
    }


def overwrite(source: Path, other: Path) -> None:
    """Writes into the same file, and sets its time to what it was."""
    times = os.stat(source)
    with open(source, "r+b") as file:
        file.write(other.read_bytes())
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(source: Path, other: Path) -> None:
    """Puts another file with the same size and time in its place."""
    times = os.stat(source)
    shutil.copyfile(other, source.with_name("new"))
    os.utime(source.with_name("new"), ns=(times.st_atime_ns, times.st_mtime_ns))
    source.with_name("new").replace(source)


class Killed(BaseException):
    """Ends a conversion as a kill does: nothing is cleaned up."""


def convert_until_killed(source: Path, output: Path) -> None:
    """Converts the first shard, and is killed in the second one."""

    def kill(done: int, total: int, name: str) -> None:
        if done > total // 2:
            raise Killed

    with pytest.raises(Killed):
        convert(source, output, to="pytorch", max_shard_size=SHARD, progress=kill)


@pytest.mark.parametrize("change", [overwrite, replace])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.9, 1.0])
def test_a_source_that_changes_while_it_is_converted(
    at: float, change: Callable[[Path, Path], None], source: Path, other: Path, tmp_path: Path
) -> None:
    changes = []

    def progress(done: int, total: int, name: str) -> None:
        if not changes and done >= at * total:
            change(source / WEIGHTS, other / WEIGHTS)
            changes.append(name)

    with pytest.raises(CheckpointError, match="changed or replaced while it was read"):
        convert(
            *(source, tmp_path / "out"),
            to="pytorch",
            max_shard_size=SHARD,
            dtype="bf16",
            progress=progress,
        )
    assert changes
    assert {path.name for path in tmp_path.iterdir()} == {"source", "other"}


def test_a_source_that_changes_between_plan_and_execution(
    source: Path, other: Path, tmp_path: Path
) -> None:
    planned = plan(open_checkpoint(source), "flax")
    replace(source / WEIGHTS, other / WEIGHTS)
    with pytest.raises(CheckpointError, match="changed or replaced"):
        execute.execute(planned, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [overwrite, replace])
def test_a_source_that_changes_between_kill_and_resume(
    change: Callable[[Path, Path], None], source: Path, other: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    convert_until_killed(source, output)
    assert len(list((tmp_path / ".out.equipoise" / "new").glob("*-of-*"))) > 1
    change(source / WEIGHTS, other / WEIGHTS)
    convert(source, output, to="pytorch", max_shard_size=SHARD)
    assert tensors(output) == tensors(other)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that says the same of every file, so that only hashes tell."""
    same = FileIdentity(0, 0, 0, 0, 0)
    monkeypatch.setattr(checkpoint_module.FileIdentity, "of", classmethod(lambda cls, path: same))


@pytest.mark.usefixtures("blind")
def test_the_hashes_of_tensors_notice_a_change_between_kill_and_resume(
    source: Path, other: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    convert_until_killed(source, output)
    replace(source / WEIGHTS, other / WEIGHTS)
    convert(source, output, to="pytorch", max_shard_size=SHARD)
    assert tensors(output) == tensors(other)


def test_a_damaged_finished_shard_is_written_again(source: Path, tmp_path: Path) -> None:
    """A bit that flipped in a finished file, whose size is what it was."""
    output = tmp_path / "out"
    convert_until_killed(source, output)
    hidden = tmp_path / ".out.equipoise"
    (name,) = json.loads((hidden / "equipoise.progress.json").read_text())["finished"]
    content = bytearray((hidden / "new" / name).read_bytes())
    content[-1] ^= 1
    (hidden / "new" / name).write_bytes(content)
    convert(source, output, to="pytorch", max_shard_size=SHARD)
    assert tensors(output) == tensors(source)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt"])
def test_companions_that_change_while_the_source_is_converted(
    name: str, source: Path, tmp_path: Path
) -> None:
    """The config is that of the plan or the conversion is refused; a tokenizer is copied whole."""
    (source / "vocab.txt").write_text("[PAD]\n")
    config = json.loads((source / "config.json").read_text())

    def progress(done: int, total: int, tensor: str) -> None:
        if name == "config.json":
            (source / name).write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
        else:
            (source / name).write_text("[UNK]\n")

    if name == "config.json":
        with pytest.raises(CheckpointError, match="the config was changed"):
            convert(source, tmp_path / "out", to="flax", progress=progress)
        assert not (tmp_path / "out").exists()
    else:
        convert(source, tmp_path / "out", to="flax", progress=progress)
        assert (tmp_path / "out" / name).read_text() == "[UNK]\n"
