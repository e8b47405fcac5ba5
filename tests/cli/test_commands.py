"""``inspect``, ``diff``, ``routes`` and ``verify``: text and JSON output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import open_checkpoint
from equipoise.fixtures.synthetic import write_small_bert, write_tensors


def test_inspect_shows(cli: Callable[..., Any], bert: Path) -> None:
    outcome = cli("inspect", bert)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[1:4] == [
        "container     safetensors",
        "layout        pytorch",
        "architecture  bert BertForMaskedLM",
    ]
    assert "tensors       42 float32, 3,269 elements, 13.08 kB" in lines
    assert sum("bert." in line and "float32" in line for line in lines) == 4  # the first ones
    assert any(line.startswith("... 34 more, --tensors lists all") for line in lines)
    full = cli("inspect", bert, "--tensors").out.splitlines()
    assert sum("float32" in line for line in full) == 43


def test_diff_of_one_model_of_several(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    """The weights of a training loop are compared with the model that was made of them."""
    refs = {name: ref.read() for name, ref in open_checkpoint(bert).items()}
    both = tmp_path / "both"
    both.mkdir()
    tensors = {f"{part}.{name}": value for part in ("model", "ema") for name, value in refs.items()}
    tensors["ema.bert.embeddings.LayerNorm.bias"] = refs[
        "bert.embeddings.LayerNorm.bias"
    ] + np.float32(1)
    write_tensors(both / "model.safetensors", tensors)
    (both / "config.json").write_bytes((bert / "config.json").read_bytes())
    assert cli("diff", both, bert, "--subtree", "model").code == 0
    assert cli("diff", bert, both, "--subtree-b", "model").code == 0
    changed = cli("diff", both, bert, "--subtree", "ema", "--json")
    assert changed.code == 1
    assert changed.data["counts"]["different"] == 1


def test_diff_of_a_variant(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    half = bert / "model.fp16.safetensors"
    refs = {name: ref.read().astype(np.float16) for name, ref in open_checkpoint(bert).items()}
    write_tensors(half, refs)
    found = cli("diff", bert, bert, "--variant-b", "fp16", "--json")
    assert found.code == 0
    assert found.data["counts"]["equal_after_cast"] > 0


def test_inspect_as_json(cli: Callable[..., Any], bert: Path) -> None:
    data = cli("inspect", bert, "--json").data
    assert data["architecture"] == {
        "model_type": "bert",
        "class": "BertForMaskedLM",
        "fits": True,
        "config_names": "BertForMaskedLM",
        "unknown": [],
        "missing": [],
    }
    assert data["totals"] == {
        "tensors": 42,
        "elements": 3269,
        "bytes": 13076,
        "dtypes": {"float32": {"tensors": 42, "elements": 3269, "bytes": 13076}},
    }
    assert data["tensors"][0] == {
        "name": "bert.embeddings.word_embeddings.weight",
        "dtype": "float32",
        "shape": [37, 12],
        "bytes": 1776,
        "file": "model.safetensors",
    }
    assert data["ties"] == {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    keys = [
        *("source", "container", "variant", "subtree", "quantization", "layout", "architecture"),
        "problem",
        "files",
        *("totals", "ties", "left_out", "oddities", "metadata", "tensors"),
    ]
    assert list(data) == keys


def test_diff_of_equal_checkpoints(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    cli("convert", bert, tmp_path / "tf", "--to", "tensorflow")
    outcome = cli("diff", bert, tmp_path / "tf")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "44 tensors: 44 identical"


def test_diff_after_a_cast(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    cli("convert", bert, tmp_path / "tf", "--to", "tensorflow", "--dtype", "fp16")
    outcome = cli("diff", bert, tmp_path / "tf")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "44 tensors: 44 equal after cast"
    assert "float32 and float16" in outcome.out


def test_diff_as_json(cli: Callable[..., Any], tmp_path: Path) -> None:
    first = {"same": np.ones(2, np.float32), "w": np.zeros((2, 2), np.float32)}
    a = write_tensors(tmp_path / "a.safetensors", {**first, "gone": np.ones(1, np.float32)})
    first["w"] = np.array([[0, 0], [0, 0.5]], np.float32)
    b = write_tensors(tmp_path / "b.safetensors", first)
    outcome = cli("diff", a, b, "--json")
    assert outcome.code == 1
    data = outcome.data
    assert data["same"] is False
    assert data["compared_by"] == "names"
    assert data["counts"] == {
        "identical": 1,
        "equal_after_cast": 0,
        "different": 1,
        "missing_in_A": 0,
        "missing_in_B": 1,
    }
    side = {"dtype": "float32", "shape": [2, 2]}
    assert {one["name"]: one for one in data["tensors"]}["w"] == {
        "name": "w",
        "result": "different",
        "a": side,
        "b": side,
        "difference": {"elements": 1, "max_abs": 0.5, "max_rel": 1.0, "not_finite": 0},
    }
    shown = cli("diff", a, b)
    assert shown.code == 1
    assert "different     1 of 4 elements, max abs 0.5, max rel 1" in shown.out
    assert shown.out.splitlines()[-1] == "3 tensors: 1 identical, 1 different, 1 missing in B"


def test_routes(cli: Callable[..., Any]) -> None:
    shown = cli("routes").out
    assert "tensorflow   flax         tensorflow -> pytorch -> flax\n" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["tensorflow-h5", "tensorflow", "keras_hdf5", "tf_model.h5", "yes"] in rows
    assert cli("routes", "--mermaid").out.startswith("graph LR\n")
    data = cli("routes", "--from", "tensorflow-h5", "--to", "flax-msgpack", "--json").data
    assert data["routes"] == [
        {"from": "tensorflow", "to": "flax", "route": ["tensorflow", "pytorch", "flax"]}
    ]
    assert {one["layout"] for one in data["formats"]} == {"tensorflow", "flax"}
    outcome = cli("routes", "--to", "nonsense")
    assert outcome.code == 2
    assert "unknown format 'nonsense'" in outcome.err


def test_verify_as_json(cli: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    cli("convert", bert, tmp_path / "out", "--to", "flax")
    outcome = cli("verify", tmp_path / "out", "--source", bert, "--json")
    assert outcome.code == 0
    assert outcome.data == {
        "output": str(tmp_path / "out"),
        "same": True,
        "files": 3,
        "tensors": 42,
        "derived": 42,
        "findings": [],
        "options": [],
        "foreign": [],
    }
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "num_labels": 5}))
    outcome = cli("verify", tmp_path / "out")
    assert outcome.code == 1
    assert outcome.out.startswith("output config.json: the file has changed\n  expected: ")
    assert outcome.out.endswith("2 files and 42 tensors checked: 1 differences\n")


def test_verify_needs_a_manifest(cli: Callable[..., Any], bert: Path) -> None:
    outcome = cli("verify", bert)
    assert outcome.code == 2
    assert "equipoise.json: cannot be read: No such file or directory" in outcome.err


def test_a_file_alone_is_compared_with_the_other_sides_config(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    bert = write_small_bert(tmp_path / "bert")
    cli("convert", bert, tmp_path / "out", "--to", "flax")
    alone = tmp_path / "alone.msgpack"
    (tmp_path / "out" / "flax_model.msgpack").rename(alone)
    outcome = cli("diff", bert, alone)
    assert outcome.code == 0, outcome.err
    assert "note: B has no config.json; the one of A serves both" in outcome.out
    assert len(open_checkpoint(alone)) == 42


@pytest.mark.parametrize(("command", "name"), [("export", "onxx"), ("convert", "onxx")])
def test_a_misspelt_format_is_said_first(command: str, name: str, cli: Callable[..., Any]) -> None:
    outcome = cli(command, "there/is/none", "out", "--to", name)
    assert outcome.code == 2
    assert name in outcome.err
    assert "there/is/none" not in outcome.err
