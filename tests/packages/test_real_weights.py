"""Real weights that ship inside packages: they are read, converted, and are what their frameworks' own readers say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.verify import verify
from equipoise.validators.runtime.process import WorkerProcess
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = pytest.mark.packages

TRANSFORMERS = {
    "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k": ("AlbertForMaskedLM", 591),
    "rxnfp/models/transformers/bert_pretrained": ("BertForPreTraining", 591),
    "rxnfp/models/transformers/bert_ft_10k_25s": ("BertForSequenceClassification", 591),
}
"""Folder -> class, and size of its vocabulary."""

CHANGES = {
    "spliceai/models/spliceai1.h5": ("tensorflow-safetensors", "tensorflow-h5"),
    "basic_pitch/saved_models/icassp_2022/nmp": ("tensorflow-safetensors",),
    "musicnn/MSD_vgg": ("tensorflow-safetensors",),
    "musicnn/MTT_musicnn": ("tensorflow-safetensors",),
    "im2deep/models/TIMS/IM2DeepMulti.ckpt": ("pytorch-safetensors", "pytorch-bin"),
    "im2deep/models/TIMS/multi_output_backbone.ckpt": ("pytorch-safetensors",),
    "silero_vad/data/silero_vad_16k.safetensors": ("pytorch-bin", "pytorch-safetensors"),
    "easyocr_en_models/models/english_g2.pth": ("pytorch-safetensors",),
    "easyocr_en_models/models/craft_mlt_25k.pth": ("pytorch-bin",),
}
"""Weights of models that are not known -> the containers that they are put into."""


@pytest.fixture(scope="session")
def packages(pytestconfig: pytest.Config) -> Path:
    folder = Path(pytestconfig.getoption("--packages"))
    assert folder.is_dir(), "unpack the packages first: make test"
    return folder


@pytest.mark.parametrize("name", [*TRANSFORMERS, *CHANGES])
def test_nothing_differs_from_itself(name: str, packages: Path, cli: Callable[..., Any]) -> None:
    outcome = cli("diff", packages / name, packages / name, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.data["same"] is True
    assert len(outcome.data["tensors"]) > 10


@pytest.mark.parametrize(("name", "to"), [(name, to) for name in CHANGES for to in CHANGES[name]])
def test_a_change_of_container_keeps_every_tensor(
    name: str, to: str, packages: Path, tmp_path: Path
) -> None:
    source = open_checkpoint(packages / name)
    convert(packages / name, tmp_path / "out", to=to)
    found = open_checkpoint(tmp_path / "out").in_names_of_files()
    expected = source.in_names_of_files()
    prefix = "module."  # of DataParallel, which is told and taken off
    assert found.keys() == {key.removeprefix(prefix) for key in expected}
    for key, ref in expected.items():
        assert found[key.removeprefix(prefix)].read().tobytes() == ref.read().tobytes(), key
    assert verify(tmp_path / "out", source=packages / name).findings == ()


@pytest.mark.transformers
def test_pytorch_reads_the_same_values(packages: Path) -> None:
    import torch
    from safetensors.torch import load_file

    for name, key in (
        ("im2deep/models/TIMS/IM2DeepUni.ckpt", "state_dict"),
        ("easyocr_en_models/models/english_g2.pth", None),
    ):
        loaded = torch.load(packages / name, map_location="cpu", weights_only=key is None)
        state = loaded[key] if key else loaded
        found = open_checkpoint(packages / name)
        assert {one.removeprefix(found.prefix) for one in found} == set(state)
        for one, ref in found.items():
            np.testing.assert_array_equal(ref.read(), state[one.removeprefix(found.prefix)])
    plain = load_file(packages / "silero_vad/data/silero_vad_16k.safetensors")
    assert isinstance(plain["conv1.weight"], torch.Tensor)


def test_programs_are_named(packages: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    program = packages / "silero_vad/data/silero_vad.jit"
    outcome = cli("convert", program, tmp_path / "out", "--to", "flax")
    assert (outcome.code, "a TorchScript program" in outcome.err) == (2, True)


def test_the_model_type_of_a_bare_model_is_proposed(
    packages: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """A config of 2020 without a model type, and names without a prefix."""
    source = packages / "rxnfp/models/transformers/bert_ft"
    outcome = cli("convert", source, tmp_path / "out", "--to", "flax")
    assert (outcome.code, "--architecture bert" in outcome.err) == (2, True)
    options = ("--to", "flax", "--architecture", "bert")
    assert cli("convert", source, tmp_path / "out", *options).code == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "bert"


@pytest.mark.oracle
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_4_computes_the_same(
    name: str, packages: Path, oracle: WorkerProcess, tmp_path: Path
) -> None:
    cls, vocabulary = TRANSFORMERS[name]
    ids = np.random.default_rng(0).integers(5, vocabulary, (2, 17))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    outputs = {}
    for layout in ("pytorch", "tensorflow", "flax"):
        convert(packages / name, tmp_path / layout, to=layout)
        model = RemoteModel(oracle, layout, cls, tmp_path / layout)
        assert model.info["missing_keys"] == []
        outputs[layout] = model.run(inputs)
        model.drop()
    reference = outputs["pytorch"]
    for layout in ("tensorflow", "flax"):
        for key, value in reference.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(outputs[layout][key], value, atol=2e-5 * scale)
