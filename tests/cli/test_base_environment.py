"""The command line converts through all frameworks with only the base dependencies installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert import open_checkpoint
from equipoise.fixtures import models

pytestmark = pytest.mark.transformers

FRAMEWORKS = ("torch", "tensorflow", "tf_keras", "keras", "jax", "flax", "transformers", "onnx")
CIRCLE = ("tensorflow", "flax", "pytorch")

CASES = [
    ("bert", "odd", "BertForPreTraining", CIRCLE),
    ("distilbert", "odd", "DistilBertForMaskedLM", CIRCLE),
    ("roberta", "odd", "RobertaForCausalLM", CIRCLE),
    ("xlm-roberta", "odd", "XLMRobertaForTokenClassification", CIRCLE),
    ("camembert", "odd", "CamembertForMaskedLM", ("tensorflow", "pytorch")),
    ("albert", "inner_groups", "AlbertForMaskedLM", CIRCLE),
    ("electra", "odd", "ElectraForPreTraining", CIRCLE),
    ("gpt2", "odd", "GPT2LMHeadModel", CIRCLE),
    ("t5", "odd", "T5ForConditionalGeneration", CIRCLE),
    ("bart", "odd", "BartForConditionalGeneration", CIRCLE),
    ("marian", "odd", "MarianMTModel", CIRCLE),
    ("mbart", "odd", "MBartForConditionalGeneration", CIRCLE),
    ("vit", "odd", "ViTForImageClassification", CIRCLE),
    ("resnet", "odd", "ResNetForImageClassification", CIRCLE),
    ("wav2vec2", "stable", "Wav2Vec2ForCTC", CIRCLE),
    ("whisper", "odd", "WhisperForConditionalGeneration", CIRCLE),
    ("clip", "odd", "CLIPModel", CIRCLE),
]


@pytest.fixture(scope="module")
def python(pytestconfig: pytest.Config) -> str:
    path: str = pytestconfig.getoption("--base")
    assert Path(path).exists(), "make the environment first: make test"
    return path


def equipoise(python: str, *arguments: object) -> Any:
    """Runs a command that must succeed; returns its JSON."""
    command = [python, "-m", "equipoise", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_no_framework_is_importable(python: str) -> None:
    code = f"import importlib.util as u; print([n for n in {FRAMEWORKS} if u.find_spec(n)])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_its_version(python: str, tmp_path: Path) -> None:
    code = "import equipoise, importlib.metadata as m; print(equipoise.__version__ == m.version('equipoise'))"
    for arguments, start in (
        (["-c", code], "True\n"),
        (["-m", "equipoise", "--version"], "equipoise "),
    ):
        command = [python, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.startswith(start)


def test_from_pretrained_says_what_it_needs(python: str) -> None:
    code = "from equipoise.convert import from_pretrained; from_pretrained(None, 'folder')"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    assert "InputError: from_pretrained needs torch" in done.stderr
    assert "pip install 'torch>=" in done.stderr


def test_every_case_is_a_family() -> None:
    """A selection of families; ``tests/oracle`` tests every family through the library."""
    assert {case[0] for case in CASES} <= {path.stem for path in models.CONFIGS.glob("*.toml")}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "config", "cls", "hops"), CASES)
def test_circle(
    family: str, config: str, cls: str, hops: tuple[str, ...], python: str, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    models.build(family, config, cls).save_pretrained(first)
    last = first
    for hop in hops:
        target = tmp_path / hop
        equipoise(python, "convert", last, target, "--to", hop)
        last = target
    compared = equipoise(python, "diff", first, last)
    assert compared["same"]
    assert {what for what, count in compared["counts"].items() if count} == {"identical"}
    before, after = open_checkpoint(first), open_checkpoint(last)
    assert before.keys() == after.keys()
    for name, ref in before.items():
        assert after[name].shape == ref.shape
        assert after[name].read().tobytes() == ref.read().tobytes(), name
    verified = equipoise(python, "verify", last)
    assert verified["findings"] == []
    assert verified["tensors"] == len(after)
