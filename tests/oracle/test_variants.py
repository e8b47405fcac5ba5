"""Shards, half precision and safetensors, as transformers 4.57.6 reads and writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import worker_functions

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.conversion.plan_types import CAST_DTYPES
from equipoise.convert.core.tensor import dtype_named
from equipoise.fixtures import models
from equipoise.validators.runtime.process import WorkerProcess
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = pytest.mark.oracle

SHARD = 10_000
"""Bytes; small enough to split every model here into several shards."""
MODELS = {
    "BertForMaskedLM": "bert",
    "T5ForConditionalGeneration": "t5",
    "BartForConditionalGeneration": "bart",
    "ResNetForImageClassification": "resnet",
    "GPT2LMHeadModel": "gpt2",
    "DistilBertForMaskedLM": "distilbert",
    "RobertaForSequenceClassification": "roberta",
    "AlbertForTokenClassification": "albert",
    "ElectraForPreTraining": "electra",
    "ViTForImageClassification": "vit",
}
"""Ten model types, each with a class that both frameworks have."""


@pytest.fixture(scope="module")
def saved(oracle: WorkerProcess, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a class's model, saved by PyTorch."""

    @cache
    def save_class(cls: str) -> Path:
        folder = tmp_path_factory.mktemp(MODELS[cls])
        oracle.call(
            models.__file__,
            "save",
            model_type=MODELS[cls],
            name="odd",
            class_name=cls,
            folder=str(folder),
        )
        return folder

    return save_class


def save(oracle: WorkerProcess, model: RemoteModel, folder: Path, **options: object) -> None:
    """Saves with the framework's own ``save_pretrained``."""
    oracle.call(worker_functions.__file__, "save", model=model.name, folder=str(folder), **options)


def values(folder: Path) -> dict[str, bytes]:
    return {name: ref.read().tobytes() for name, ref in open_checkpoint(folder).items()}


@pytest.mark.parametrize("form", ["tensorflow-h5", "tensorflow-safetensors", "flax-msgpack"])
@pytest.mark.parametrize("cls", MODELS)
def test_shards(
    form: str, cls: str, saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path
) -> None:
    layout = form.partition("-")[0]
    convert(saved(cls), tmp_path / "ours", to=form, max_shard_size=SHARD)
    assert len(open_checkpoint(tmp_path / "ours").files) > 3
    model = RemoteModel(oracle, layout, cls, tmp_path / "ours")
    assert [model.info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")] == [
        [],
        [],
        [],
    ]
    save(
        oracle,
        model,
        tmp_path / "theirs",
        max_shard_size=SHARD,
        safe_serialization=form.endswith("safetensors"),
    )
    model.drop()
    assert len(open_checkpoint(tmp_path / "theirs").files) > 3
    convert(tmp_path / "theirs", tmp_path / "back", to="pytorch")
    assert values(tmp_path / "back") == values(saved(cls))


@pytest.mark.parametrize("half", ["fp16", "bf16"])
@pytest.mark.parametrize("cls", MODELS)
def test_shards_of_half_precision(
    cls: str, half: str, saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path
) -> None:
    """Both frameworks load them with no missing tensors, and every value is rounded as NumPy rounds."""
    reference = open_checkpoint(saved(cls))
    for layout in ("tensorflow", "flax"):
        shards = tmp_path / layout
        form = "tensorflow-safetensors" if layout == "tensorflow" else layout
        convert(saved(cls), shards, to=form, dtype=half, max_shard_size=SHARD // 2)
        assert len(open_checkpoint(shards).files) > 2
        model = RemoteModel(oracle, layout, cls, shards)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            assert model.info[key] == [], f"{key} in {layout}"
        model.drop()
        convert(shards, tmp_path / f"{layout}-back", to="pytorch")
        for name, ref in open_checkpoint(tmp_path / f"{layout}-back").items():
            wanted = reference[name].read()
            if reference[name].dtype.kind == "f":
                wanted = wanted.astype(dtype_named(CAST_DTYPES[half]))
            assert ref.read().tobytes() == wanted.tobytes(), name


@pytest.mark.parametrize("cls", ["BertForMaskedLM", "BartForConditionalGeneration"])
def test_saved_model_and_checkpoint(
    cls: str, saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path
) -> None:
    """SavedModel variables and TensorFlow checkpoints convert back to the original PyTorch weights."""
    convert(saved(cls), tmp_path / "h5", to="tensorflow")
    model = RemoteModel(oracle, "tensorflow", cls, tmp_path / "h5")
    save(oracle, model, tmp_path / "saved", saved_model=True)
    model.drop()
    (tmp_path / "saved" / "tf_model.h5").unlink()
    result = convert(tmp_path / "saved", tmp_path / "back", to="pytorch")
    assert result.values["source"]["container"] == "tensor_bundle"
    assert values(tmp_path / "back") == values(saved(cls))
    assert (tmp_path / "back" / "config.json").is_file()


def test_flax_safetensors(
    saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path
) -> None:
    source = saved("BertForMaskedLM")
    convert(source, tmp_path / "ours", to="flax-safetensors")
    model = RemoteModel(oracle, "flax", "BertForMaskedLM", tmp_path / "ours")
    assert model.info["missing_keys"] == model.info["unexpected_keys"] == []
    save(oracle, model, tmp_path / "theirs", safe_serialization=True)
    model.drop()
    convert(tmp_path / "theirs", tmp_path / "back", to="pytorch")
    assert values(tmp_path / "back") == values(source)


def test_flax_bfloat16(saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path) -> None:
    """Equipoise's cast and Flax's give the same bits, and Flax's file converts back."""
    source = saved("BertForMaskedLM")
    convert(source, tmp_path / "bf16", to="flax", dtype="bf16")
    convert(source, tmp_path / "fp32", to="flax")
    model = RemoteModel(oracle, "flax", "BertForMaskedLM", tmp_path / "fp32")
    save(oracle, model, tmp_path / "theirs", bf16=True)
    model.drop()
    assert values(tmp_path / "theirs") == values(tmp_path / "bf16")
    kinds = {ref.dtype.name for ref in open_checkpoint(tmp_path / "theirs").values()}
    assert kinds == {"bfloat16"}
    convert(tmp_path / "theirs", tmp_path / "back", to="pytorch")
    convert(source, tmp_path / "cast", to="pytorch", dtype="bf16", architecture="BertForMaskedLM")
    assert values(tmp_path / "back") == values(tmp_path / "cast")


def test_half_precision_in_pytorch(
    saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path
) -> None:
    convert(saved("BertForMaskedLM"), tmp_path / "fp16", to="pytorch-bin", dtype="fp16")
    model = RemoteModel(oracle, "pytorch", "BertForMaskedLM", tmp_path / "fp16", dtype="float16")
    assert model.info["missing_keys"] == model.info["unexpected_keys"] == []
    model.drop()
    reference = open_checkpoint(saved("BertForMaskedLM"))
    for name, ref in open_checkpoint(tmp_path / "fp16").items():
        assert ref.dtype == np.float16
        np.testing.assert_array_equal(ref.read(), reference[name].read().astype(np.float16))


def test_flax_writes_the_same_bytes(
    saved: Callable[[str], Path], oracle: WorkerProcess, tmp_path: Path
) -> None:
    """After `from_pretrained` Flax's tree has the order of Equipoise's, so the files are equal byte for byte."""
    convert(saved("T5ForConditionalGeneration"), tmp_path / "ours", to="flax")
    model = RemoteModel(oracle, "flax", "T5ForConditionalGeneration", tmp_path / "ours")
    save(oracle, model, tmp_path / "theirs")
    model.drop()
    ours, theirs = (tmp_path / name / "flax_model.msgpack" for name in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()
