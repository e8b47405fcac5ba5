"""Checkpoints of the research repositories: what Equipoise makes of them is what transformers 4.57.6 loads, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_worker
import numpy as np
import pytest
from google_checkpoints import GoogleCase, cases
from google_loaders import LISTED, NOTES, judging_modules
from google_transformers import xlnet_squad_case
from safetensors.numpy import load_file

from equipoise.convert import convert
from equipoise.validators.runtime.process import WorkerProcess

pytestmark = pytest.mark.oracle


def write_folders(case: GoogleCase, oracle: WorkerProcess, scratch: Path) -> tuple[Path, Path]:
    """Writes a checkpoint with its config, and one of the weights alone; returns the folder and the other's prefix."""
    folder, weights = scratch / "training", scratch / "weights"
    folder.mkdir()
    weights.mkdir()
    oracle.call(
        google_worker.__file__,
        "write",
        weights=str(weights / "model.ckpt"),
        training=str(folder / "model.ckpt"),
        variables=case.variables,
        partitioned=case.partitioned,
        dtype=case.dtype,
    )
    name, values = case.own_config or (
        "config.json",
        {**case.config, "model_type": case.model_type},
    )
    text = values if isinstance(values, str) else json.dumps(dict(values))
    (folder / name).write_text(text)
    return folder, weights / "model.ckpt"


def load(case: GoogleCase, oracle: WorkerProcess, prefix: Path, output: Path) -> dict[str, Any]:
    """Returns the tensors that the loader of 4.57.6 makes of a checkpoint, by PyTorch's names."""
    oracle.call(
        google_worker.__file__,
        "load",
        model=case.model,
        config=dict(case.config),
        loader=case.loader,
        prefix=str(prefix),
        output=str(output),
        arguments=dict(case.arguments),
        call=case.call,
        lent=dict(case.lent),
    )
    found: dict[str, Any] = load_file(output)
    return found


def _our_name(case: GoogleCase, name: str) -> str:
    """Returns the name that Equipoise's class has for a parameter of the class that the loader filled."""
    module, _, leaf = name.rpartition(".")
    return f"{case.renamed[module]}.{leaf}" if module in case.renamed else name


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_tensors_are_those_of_the_loader(
    case: GoogleCase, oracle: WorkerProcess, tmp_path: Path
) -> None:
    # Most loaders stumble over slots of other optimizers and take moving averages for weights: they get the weights alone.
    folder, weights = write_folders(case, oracle, tmp_path)
    prefix = folder / "model.ckpt" if case.takes_averages else weights
    loaded = load(case, oracle, prefix, tmp_path / "expected.safetensors")
    convert(folder, tmp_path / "out", to="pytorch", architecture=case.architecture)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    found = {name.removeprefix(case.below): value for name, value in stored.items()}
    expected = {_our_name(case, name): value for name, value in loaded.items()}
    unread = [name for name in found if name.endswith(case.unread_endings or "!")]
    assert found.keys() - expected.keys() == {*case.unread, *unread} - expected.keys()
    assert not expected.keys() & set(case.unread)
    for name in found.keys() & expected.keys():
        value = found[name].astype(expected[name].dtype)
        assert np.array_equal(value, expected[name]), name
    values = {value.astype(np.float32).tobytes() for value in found.values()}
    others = expected.keys() - found.keys() - set(case.only_there)
    assert all(expected[name].tobytes() in values for name in others)
    assert_loads_in_transformers_5(tmp_path / "out")


WAY_BACK = (
    "bert-pretraining",
    "albert-masked",
    "xlnet-regression",
    "gpt2",
    "gpt_neo-float32",
    "mobilenet_v1",
)
"""Cases whose checkpoints are written again: a loader of 4.57.6 takes its own names from what Equipoise writes."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in cases() if case.name in WAY_BACK]
)
def test_loaders_read_what_is_written(
    case: GoogleCase, oracle: WorkerProcess, tmp_path: Path
) -> None:
    """TensorFlow checks the checksum of every tensor that it reads."""
    folder, weights = write_folders(case, oracle, tmp_path)
    convert(folder, tmp_path / "there", to="pytorch", architecture=case.architecture)
    convert(tmp_path / "there", tmp_path / "back", to="google", architecture=case.architecture)
    expected, found = (
        load(case, oracle, prefix, tmp_path / f"{number}.safetensors")
        for number, prefix in enumerate((weights, tmp_path / "back" / "model.ckpt"))
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_loads_in_transformers_5(folder: Path) -> None:
    """Asserts that the class that the config names takes every tensor, and needs no other, if there still is such a class."""
    import transformers

    values = json.loads((folder / "config.json").read_text())
    cls = getattr(transformers, values["architectures"][0], None)
    if cls is None:
        return
    _, about = cls.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not about[kind], kind
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.model_type == values["model_type"]


def test_heads_for_squad_of_xlnet_answer_alike(oracle: WorkerProcess, tmp_path: Path) -> None:
    case = xlnet_squad_case()
    folder, weights = write_folders(case, oracle, tmp_path)
    convert(folder, tmp_path / "out", to="pytorch")
    found = oracle.call(
        google_worker.__file__,
        "compare_squad_heads",
        prefix=str(weights),
        folder=str(tmp_path / "out"),
        width=case.config["d_model"],
    )
    assert max(found.values()) < 1e-5, found


def test_every_loader_is_listed(oracle: WorkerProcess) -> None:
    theirs = oracle.call(google_worker.__file__, "list_loaders")
    judging = judging_modules()
    assert sorted([*judging, *LISTED]) == theirs
    assert not set(judging) & set(LISTED)
    assert set(NOTES) <= set(judging)


@pytest.mark.parametrize("module", [name for name, one in LISTED.items() if one.copy_of])
def test_copies_are_copies(module: str, oracle: WorkerProcess) -> None:
    own, other = (
        oracle.call(google_worker.__file__, "loader_code", name=one)
        for one in (module, LISTED[module].copy_of)
    )
    assert own == other
