"""Which of several files is read: the file ``checkpoint`` decides, numbers of shards count, variants are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import CheckpointError, CoverageError
from equipoise.fixtures.synthetic import write_small_bert
from equipoise.validators.models.folder import ModelFolder

BUNDLES = Path(__file__).parents[1] / "containers" / "golden" / "bundle"


def checkpoints(folder: Path, *prefixes: str) -> Path:
    """Writes TensorFlow checkpoints of these prefixes."""
    folder.mkdir(exist_ok=True)
    for prefix in prefixes:
        for path in BUNDLES.glob("keras.ckpt.*"):
            shutil.copyfile(path, folder / path.name.replace("keras.ckpt", prefix))
    return folder


def say(folder: Path, path: str) -> None:
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "cp-0001.ckpt"\n'
    )


@pytest.mark.parametrize(
    ("names", "path", "taken"),
    [
        (["cp-0001.ckpt", "cp-0002.ckpt", "cp-0003.ckpt"], "cp-0002.ckpt", "cp-0002.ckpt"),
        (["model.ckpt-1000", "model.ckpt-500"], "/old/machine/out/model.ckpt-1000", "model.ckpt-1000"),
        (["ckpt-1", "ckpt-2"], "ckpt-1", "ckpt-1"),
        (["a b.ckpt", "c.ckpt"], "runs/1/a b.ckpt", "a b.ckpt"),
    ],
)  # fmt: skip
def test_the_file_checkpoint_decides(
    names: list[str], path: str, taken: str, tmp_path: Path
) -> None:
    folder = checkpoints(tmp_path / "run", *names)
    say(folder, path)
    opened = open_checkpoint(folder)
    assert opened.files[0].name == f"{taken}.index"
    assert any(f"names {taken!r}: it was taken" in note for note in opened.oddities)


def test_checkpoints_without_a_sign_are_refused_and_listed(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path / "run", "cp-0001.ckpt", "cp-0002.ckpt")
    with pytest.raises(
        CheckpointError, match=r"2 TensorFlow checkpoints[^$]*cp-0001\.ckpt, cp-0002"
    ):
        open_checkpoint(folder)
    say(folder, "cp-0009.ckpt")
    with pytest.raises(CheckpointError, match=r"names 'cp-0009\.ckpt', which is not there"):
        open_checkpoint(folder)


def test_the_only_checkpoint_is_taken_whatever_its_name(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path / "run", "weights")
    assert open_checkpoint(folder).oddities == ()
    say(folder, "cp-0009.ckpt")
    assert "'weights' was taken" in open_checkpoint(folder).oddities[0]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    convert(write_small_bert(tmp_path / "bert"), folder, to="pytorch", max_shard_size=6000)
    (folder / "model.safetensors.index.json").unlink()
    return folder


def test_shards_are_read_without_their_index(shards: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(shards)
    whole = open_checkpoint(tmp_path / "bert")
    assert opened.keys() == whole.keys()
    assert all(opened[name].read().tobytes() == whole[name].read().tobytes() for name in whole)
    assert "all 3 shards of model.safetensors were read" in opened.oddities[0]
    assert not opened.is_standard


def test_one_shard_of_several_is_named(shards: Path, tmp_path: Path) -> None:
    first = shards / "model-00001-of-00003.safetensors"
    assert len(open_checkpoint(first)) > 0
    with pytest.raises(CoverageError, match="one of 3 shards: give the folder") as refused:
        convert(first, tmp_path / "out", to="flax")
    assert len(refused.value.problems) == 1


def test_a_missing_shard_is_named(shards: Path) -> None:
    (shards / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"shards are missing: model-00002-of-00003\.safetensors"
    ):
        open_checkpoint(shards)


def test_a_variant_is_taken_alone_or_by_name(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert")
    convert(folder, tmp_path / "half", to="pytorch", dtype="fp16")
    half = folder / "model.fp16.safetensors"
    shutil.copyfile(tmp_path / "half" / "model.safetensors", half)
    assert open_checkpoint(folder).files[0].name == "model.safetensors"
    assert open_checkpoint(folder, variant="fp16").files == (half,)
    (folder / "model.safetensors").unlink()
    opened = open_checkpoint(folder)
    assert opened.files == (half,)
    assert "the variant 'fp16'" in opened.oddities[0]
    shutil.copyfile(half, folder / "model.bf16.safetensors")
    with pytest.raises(CheckpointError, match=r"2 variants[^$]*--variant NAME"):
        open_checkpoint(folder)
    with pytest.raises(CheckpointError, match="no weights of the variant 'int8'"):
        open_checkpoint(folder, variant="int8")


def test_a_variant_in_shards(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    convert(write_small_bert(tmp_path / "bert"), folder, to="pytorch", max_shard_size=6000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    (folder / "model.safetensors.index.json").unlink()
    for path in sorted(folder.glob("model-*")):
        path.rename(path.with_name(path.name.replace("model-", "model.fp16-")))
    names = {
        key: name.replace("model-", "model.fp16-") for key, name in index["weight_map"].items()
    }
    (folder / "model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": names}))
    assert len(open_checkpoint(folder, variant="fp16").files) == 3
    convert(folder, tmp_path / "flax", to="flax", variant="fp16")


def test_one_file_of_another_name(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert")
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    (folder / "training_args.bin").write_bytes(b"anything")
    (folder / "optimizer.pt").write_bytes(b"anything")
    opened = open_checkpoint(folder)
    assert opened.oddities == ("best.safetensors was taken: there are no weights of another name",)
    shutil.copyfile(folder / "best.safetensors", folder / "last.safetensors")
    with pytest.raises(
        CheckpointError, match=r"2 files of weights[^$]*best.safetensors, last.safe"
    ):
        open_checkpoint(folder)


def test_a_trainers_folder(tmp_path: Path, cli: Callable[..., Any]) -> None:
    folder = tmp_path / "out"
    write_small_bert(folder / "checkpoint-500")
    opened = open_checkpoint(folder)
    assert opened.path == folder / "checkpoint-500"
    assert opened.oddities == (
        "checkpoint-500 was read: it is the only checkpoint of this Trainer",
    )
    assert ModelFolder(folder).path == folder / "checkpoint-500"
    write_small_bert(folder / "checkpoint-1000")
    state = {"best_model_checkpoint": "/old/machine/out/checkpoint-500"}
    (folder / "checkpoint-1000" / "trainer_state.json").write_text(json.dumps(state))
    for command in ("inspect", "validate"):
        refused = cli(command, folder)
        assert refused.code == 2
        assert (
            "checkpoint-500, checkpoint-1000; trainer_state.json says that checkpoint-500"
            in refused.err
        )


@pytest.mark.parametrize("name", ["0_Transformer", ""])
def test_a_sentence_transformer(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "st"
    write_small_bert(folder / name)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"weights")
    modules = [{"idx": i, "path": path} for i, path in enumerate((name, "1_Pooling", "2_Dense"))]
    (folder / "modules.json").write_text(json.dumps(modules))
    opened = open_checkpoint(folder)
    assert opened.path == folder / name
    assert "2_Dense holds weights of its own" in opened.oddities[-1]


def test_modules_outside_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write_small_bert(tmp_path / "other")
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "modules.json").write_text(json.dumps([{"path": "../other"}]))
    with pytest.raises(CheckpointError, match="no weights in this folder"):
        open_checkpoint(tmp_path / "st")
