"""``equipoise convert``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import open_checkpoint
from equipoise.fixtures.synthetic import write_small_bert

ROUND_TRIP = """
import importlib.abc, sys
BLOCKED = {"torch", "tensorflow", "tf_keras", "keras", "jax", "flax", "transformers"}

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Block())
from equipoise.cli.main import run
source, folder = sys.argv[1:]
for before, after, to in (
    (source, "tf", "tensorflow"), ("tf", "fl", "flax"), ("fl", "pt", "pytorch"), ("pt", "bin", "pytorch-bin"),
):
    place = before if before == source else f"{folder}/{before}"
    assert run(["convert", place, f"{folder}/{after}", "--to", to, "--json"]) == 0, to
    assert run(["verify", f"{folder}/{after}", "--source", place]) == 0, to
    assert run(["diff", source, f"{folder}/{after}"]) == 0, to
assert not BLOCKED & sys.modules.keys()
"""


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertModel", "BertForPreTraining"])
def test_conversion_through_all_frameworks_without_any_installed(name: str, tmp_path: Path) -> None:
    source = write_small_bert(tmp_path / "source", name)
    command = [sys.executable, "-c", ROUND_TRIP, str(source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, last = open_checkpoint(source), open_checkpoint(tmp_path / "pt")
    assert dict.fromkeys(first) == dict.fromkeys(last)
    for key in first:
        assert first[key].read().tobytes() == last[key].read().tobytes()


def test_json_output(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    outcome = cli("convert", bert, tmp_path / "out", "--to", "tensorflow", "--json")
    assert outcome.code == 0
    assert outcome.err == ""
    data = outcome.data
    manifest = json.loads((tmp_path / "out" / "equipoise.json").read_text())
    assert data.pop("sha256") == manifest["target"]["files"]
    assert data == {
        "dry_run": False,
        "output": str(tmp_path / "out"),
        "source": str(bert),
        "route": ["pytorch", "tensorflow"],
        "format": "tensorflow-h5",
        "architecture": ["bert", "BertForMaskedLM"],
        "steps": 42,
        "tensors": 42,
        "bytes": 4 * 3269,
        "files": ["tf_model.h5"],
        "casts": {},
        "checks": [],
        "tied": {},
        "computed": {},
        "left_out": {},
        "allowed": {},
        "notes": [],
    }
    assert (tmp_path / "out" / "config.json").read_text() == (bert / "config.json").read_text()
    assert list(manifest["companions"]) == ["config.json"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    arguments = ("convert", bert, tmp_path / "out", "--to", "flax", "--dtype", "bf16", "--dry-run")
    outcome = cli(*arguments)
    assert outcome.code == 0
    assert "route         pytorch -> flax as flax-msgpack\n" in outcome.out
    assert "casts         42 float32 -> bfloat16\n" in outcome.out
    assert cli(*arguments, "--json").data["casts"] == {"float32 -> bfloat16": 42}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_refuses_what_the_conversion_would(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    for output, options, text in (
        (mine, (), "the output folder is not empty"),
        (mine, ("--force",), "thesis.txt"),
        (bert, ("--force",), "the output folder holds the source"),
    ):
        outcome = cli("convert", bert, output, "--to", "flax", "--dry-run", *options)
        assert outcome.code == 2
        assert text in outcome.err
    assert (mine / "thesis.txt").read_text() == "all of it"


def test_a_cast_rounds_every_tensor(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    assert cli("convert", bert, tmp_path / "o", "--to", "pytorch", "--dtype", "fp16").code == 0
    before, after = open_checkpoint(bert), open_checkpoint(tmp_path / "o")
    for name, ref in before.items():
        np.testing.assert_array_equal(ref.read().astype(np.float16), after[name].read())


def test_shards(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    arguments = ("convert", bert, tmp_path / "out", "--to", "flax", "--max-shard-size", "5kB")
    files = cli(*arguments, "--json").data["files"]
    assert files == [f"flax_model-0000{i + 1}-of-00003.msgpack" for i in range(3)]
    manifest = json.loads((tmp_path / "out" / "equipoise.json").read_text())
    assert "flax_model.msgpack.index.json" in manifest["companions"]
    assert cli("diff", bert, tmp_path / "out").code == 0
    assert cli("verify", tmp_path / "out", "--source", bert).code == 0


def test_an_allowed_loss_is_in_the_manifest(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    from equipoise.fixtures.synthetic import write_tensors

    tensors = {name: ref.read() for name, ref in open_checkpoint(bert).items()}
    tensors["extra.weight"] = np.ones(3, np.float32)
    write_tensors(bert / "model.safetensors", tensors)
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax")
    assert outcome.code == 2
    assert "'extra.weight' is unknown to BertForMaskedLM" in outcome.err
    assert not (tmp_path / "out").exists()
    allow = ("--allow", "extra.weight=a probe of ours")
    assert cli("convert", bert, tmp_path / "out", "--to", "flax", *allow).code == 0
    manifest = json.loads((tmp_path / "out" / "equipoise.json").read_text())
    assert manifest["allowed"] == {"extra.weight": {"reason": "a probe of ours", "other": []}}
    assert cli("verify", tmp_path / "out", "--source", bert).code == 0


def test_allow_lossy_drops_what_the_class_cannot_hold(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    from equipoise.fixtures.synthetic import write_tensors

    head, bias = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
    tensors = {name: ref.read() for name, ref in open_checkpoint(bert).items()}
    tensors[head] = tensors["bert.embeddings.word_embeddings.weight"] + np.float32(1)
    tensors[bias] = tensors["cls.predictions.bias"].copy()
    write_tensors(bert / "model.safetensors", tensors)
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    refused = cli("convert", bert, tmp_path / "out", "--to", "tensorflow")
    assert refused.code == 2
    assert "--allow-lossy" in refused.err
    lossy = ("--to", "tensorflow", "--allow-lossy")
    done = cli("convert", bert, tmp_path / "out", *lossy, "--json")
    assert done.code == 0
    reason = "the TF class always ties its head to the word embeddings"
    assert done.err == f"warning: lost: {head}: {reason}\n"
    manifest = json.loads((tmp_path / "out" / "equipoise.json").read_text())
    assert manifest["notes"] == [f"lost: {head}: {reason}"] == done.data["notes"]
    assert manifest["allowed"] == {head: {"reason": reason, "other": []}}
    assert cli("verify", tmp_path / "out", "--source", bert).code == 0
    back = cli("convert", tmp_path / "out", tmp_path / "back", "--to", "pytorch")
    assert back.code == 0
    found = open_checkpoint(tmp_path / "back")
    for name in tensors.keys() - {head, bias}:
        np.testing.assert_array_equal(found[name].read(), tensors[name])
    # Tensors of no class are still refused.
    tensors["extra.weight"] = np.ones(3, np.float32)
    write_tensors(bert / "model.safetensors", tensors)
    refused = cli("convert", bert, tmp_path / "no", *lossy)
    assert refused.code == 2
    assert "'extra.weight' is unknown" in refused.err


def test_allowing_an_unknown_tensor_is_an_error(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax", "--allow", "typo=reason")
    assert outcome.code == 2
    assert "tensor 'typo': allowed to be lost, but there is no such tensor" in outcome.err


def test_force_replaces_a_folder(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax")
    assert outcome.code == 2
    assert "the output folder is not empty" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax", "--force")
    assert outcome.code == 2
    assert "found:    old" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    (tmp_path / "out" / "old").unlink()
    assert cli("convert", bert, tmp_path / "out", "--to", "flax").code == 0
    assert cli("convert", bert, tmp_path / "out", "--to", "flax").code == 2
    assert cli("convert", bert, tmp_path / "out", "--to", "flax", "--force").code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "equipoise.json", "flax_model.msgpack"}
    assert {path.name for path in tmp_path.iterdir()} == {"bert", "out"}


def test_the_architecture_can_be_given(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").unlink()
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax")
    assert outcome.code == 2
    assert "no config.json next to the weights" in outcome.err
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({**config, "model_type": "other", "architectures": []}))
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax", "--config", elsewhere)
    assert outcome.code == 2
    assert "model_type is 'other'" in outcome.err
    options = ("--config", elsewhere, "--architecture", "BertForMaskedLM")
    assert cli("convert", bert, tmp_path / "out", "--to", "flax", *options).code == 0
    verified = cli("verify", tmp_path / "out", "--source", bert, "--config", elsewhere)
    assert verified.code == 0, verified.out


def test_one_of_several_layouts_is_taken(
    cli: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    assert cli("convert", bert, tmp_path / "tf", "--to", "tensorflow").code == 0
    (tmp_path / "tf" / "tf_model.h5").rename(bert / "tf_model.h5")
    (bert / "model.safetensors").rename(bert / "pytorch_model.safetensors")
    (bert / "pytorch_model.bin").write_bytes(b"nothing that is looked at")
    arguments = (
        "convert",
        bert,
        tmp_path / "out",
        "--to",
        "flax",
        "--from",
        "tensorflow",
        "--json",
    )
    assert cli(*arguments).data["route"] == ["tensorflow", "pytorch", "flax"]
