"""Only what lies in a model's folder is read from it: no links to other files, no pipes, no devices."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.files.containment import reason_not_to_read
from equipoise.fixtures.synthetic import write_small_bert

GOLDEN = Path(__file__).parents[1] / "containers" / "golden"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_small_bert(tmp_path / "bert")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/etc/passwd", "a link that leads out of the folder, to /etc/passwd"),
        ("/proc/self/environ", "a link that leads out of the folder, to /proc/"),
        ("/dev/zero", "not a regular file"),
        ("pipe", "not a regular file"),
        ("nothing", "a link to nothing"),
        ("notes.txt", "a link to nothing"),
    ],
)
def test_companions_that_are_no_files_of_the_folder(
    target: str, reason: str, cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    os.mkfifo(bert / "pipe")
    (bert / "vocab.txt").write_text("[PAD]\n")
    (bert / "merges.txt").symlink_to("vocab.txt")
    (bert / "notes.txt").symlink_to(target)
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax", "--json")
    assert outcome.code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("config.json", "equipoise.json", "flax_model.msgpack", "merges.txt", "vocab.txt"),
    }
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    (note,) = json.loads(outcome.out)["notes"]
    assert note.startswith(f"notes.txt is not copied: {reason}")


def test_a_pipe_with_the_name_of_a_companion(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    os.mkfifo(bert / "notes.txt")
    outcome = cli("convert", bert, tmp_path / "out", "--to", "pytorch", "--json")
    assert json.loads(outcome.out)["notes"] == ["notes.txt is not copied: not a regular file"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_weights_and_config_that_lie_elsewhere(
    kind: str, name: str, cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    (bert / name).rename(tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(bert / name)
    else:
        (bert / name).symlink_to(tmp_path / "elsewhere" if kind == "link" else "/dev/zero")
    for command in (("convert", bert, tmp_path / "out", "--to", "flax"), ("inspect", bert)):
        outcome = cli(*command)
        assert outcome.code == 2
        assert f"{bert / name}: it is not read" in outcome.err
        reason = "leads out of the folder" if kind == "link" else "not a regular file"
        assert reason in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"bert", "elsewhere"}


def test_shards_and_data_files_that_lie_elsewhere(tmp_path: Path) -> None:
    bert = write_small_bert(tmp_path / "bert")
    (bert / "model.safetensors").rename(tmp_path / "shard.safetensors")
    (bert / "shard.safetensors").symlink_to(tmp_path / "shard.safetensors")
    (bert / "model.safetensors.index.json").write_text(
        '{"weight_map": {"bert.pooler.dense.bias": "shard.safetensors"}}'
    )
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        open_checkpoint(bert)
    index = next(GOLDEN.rglob("*.index"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copyfile(index, folder / index.name)
    for data in index.parent.glob(f"{index.name.removesuffix('.index')}.data-*"):
        (folder / data.name).symlink_to(data)
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        open_checkpoint(folder / index.name)


def test_a_file_that_the_user_names_may_be_a_link(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.safetensors").symlink_to(bert / "model.safetensors")
    (tmp_path / "link.json").symlink_to(bert / "config.json")
    arguments = ("--to", "flax", "--config", tmp_path / "link.json")
    outcome = cli("convert", tmp_path / "link.safetensors", tmp_path / "out", *arguments)
    assert outcome.code == 0


def test_blobs_of_another_repository(tmp_path: Path) -> None:
    for name in ("models--a--a", "models--b--b"):
        (tmp_path / name / "blobs").mkdir(parents=True)
        (tmp_path / name / "blobs" / "0").write_text("{}")
        (tmp_path / name / "snapshots" / "x" / "onnx").mkdir(parents=True)
    folder = tmp_path / "models--a--a" / "snapshots" / "x"
    own, other, deep = folder / "own", folder / "other", folder / "onnx" / "deep"
    own.symlink_to("../../blobs/0")
    deep.symlink_to("../../../blobs/0")
    other.symlink_to("../../../models--b--b/blobs/0")
    assert reason_not_to_read(own, folder) == ""
    assert reason_not_to_read(deep, folder / "onnx") == ""
    assert "leads out of the folder" in reason_not_to_read(other, folder)
    (tmp_path / "models--a--a" / "blobs").rename(tmp_path / "moved")
    (tmp_path / "models--a--a" / "blobs").symlink_to("../moved")
    assert "leads out of the folder" in reason_not_to_read(own, folder)
