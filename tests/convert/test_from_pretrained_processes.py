"""from_pretrained in other processes: without torch, its peak memory, and under transformers 4.57.6."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert import convert
from equipoise.convert.core.tensor import DTYPES
from equipoise.convert.from_pretrained import torch_from_numpy
from equipoise.fixtures import models

TYPING_ROOT = Path(__file__).parents[1] / "typing_root"

LOAD = """
import sys, resource, torch, transformers
from equipoise.convert import from_pretrained
import transformers.models.bert.modeling_bert
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
transformers.BertModel(transformers.BertConfig(
    vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
before = peak()
model = from_pretrained(transformers.BertModel, sys.argv[1])
print(peak() - before, sum(p.nbytes for p in model.parameters()), max(p.nbytes for p in model.parameters()))
"""

COMPARE = """
import sys, torch, transformers
from equipoise.convert import from_pretrained
assert transformers.__version__ == "4.57.6"
own, *others = sys.argv[1:]
for auto in (transformers.AutoModelForSequenceClassification, transformers.BertModel):
    expected, theirs = auto.from_pretrained(own, output_loading_info=True)
    for folder in others:
        flag = {"from_tf": True} if "tensorflow" in folder else {"from_flax": True}
        found, info = from_pretrained(auto, folder, output_loading_info=True, **flag)
        assert type(found) is type(expected)
        assert info == theirs, (info, theirs)
        first, second = found.state_dict(), expected.state_dict()
        assert list(first) == list(second)
        assert all(torch.equal(first[name], second[name]) for name in second)
        half, how = torch.bfloat16, {"ignore_mismatched_sizes": True, "num_labels": 3}
        found, info = from_pretrained(auto, folder, dtype=half, output_loading_info=True, **how)
        expected_half, theirs_half = auto.from_pretrained(
            own, dtype=half, output_loading_info=True, **how)
        assert {k: sorted(v) for k, v in info.items()} == {k: sorted(v) for k, v in theirs_half.items()}
        assert found.dtype == half
        assert torch.equal(found.get_input_embeddings().weight,
                           expected_half.get_input_embeddings().weight)
print("same")
"""


def run(python: str, script: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [python, "-c", script, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1] if done.stdout else ""


def test_no_framework_is_imported() -> None:
    script = """
import sys
import equipoise.convert
print(sorted({"torch", "transformers", "tensorflow", "jax", "flax"} & set(sys.modules)))
"""
    assert run(sys.executable, script) == "[]"


@pytest.mark.transformers
@pytest.mark.parametrize("name", [*DTYPES])
def test_dtypes(name: str) -> None:
    import torch

    bits = np.arange(48, dtype=np.uint8).reshape(3, 16)
    if name == "bool":
        bits = bits % 2
    array = bits.view(DTYPES[name])
    if not hasattr(torch, name):
        with pytest.raises(AttributeError):
            torch_from_numpy(array)
        return
    tensor = torch_from_numpy(array)
    assert tensor.dtype == getattr(torch, name)
    assert tensor.shape == array.shape
    assert bytes(tensor.contiguous().view(torch.uint8).numpy().tobytes()) == array.tobytes()
    assert torch_from_numpy(array[0, :1].reshape(())).shape == ()
    array.flags.writeable = False
    assert torch_from_numpy(array).tolist() == tensor.tolist() or array.dtype.kind != "i"


@pytest.mark.transformers
@pytest.mark.slow
@pytest.mark.parametrize("form", ["tensorflow-h5", "flax-msgpack", "flax-safetensors"])
def test_memory(form: str, tmp_path: Path) -> None:
    """Peak memory is the model's size plus the tensors in flight on four threads."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=8000, hidden_size=768, num_hidden_layers=5)
    BertModel(config).save_pretrained(tmp_path / "own")
    convert(tmp_path / "own", tmp_path / "other", to=form)
    used, size, largest = map(int, run(sys.executable, LOAD, tmp_path / "other").split())
    assert size > 150_000_000
    assert used < size + 4 * largest + 60_000_000


@pytest.mark.transformers
@pytest.mark.oracle
def test_transformers_4(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """The same call under transformers 4.57.6, in whose environment Equipoise is not installed."""
    own = tmp_path / "own"
    models.save("bert", "odd", "BertForSequenceClassification", str(own))
    for form in ("tensorflow-h5", "tensorflow-safetensors", "flax-msgpack", "flax-safetensors"):
        convert(own, tmp_path / form, to=form)
    python = pytestconfig.getoption("--oracle")
    others = [path for path in tmp_path.iterdir() if path != own]
    assert run(python, COMPARE, own, *others, PYTHONPATH=str(TYPING_ROOT)) == "same"
