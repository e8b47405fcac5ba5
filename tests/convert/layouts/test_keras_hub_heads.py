"""KerasHub's tasks: a head comes along in ``task.json`` and ``task.weights.h5``, or is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, CoverageError
from equipoise.convert.verify import verify
from equipoise.fixtures.keras_hub_models import write_source

GOLDEN = Path(__file__).parent / "golden" / "keras_hub"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(24))]


def preset_with(name: str, task: str, folder: Path, **fields: object) -> Path:
    """Returns a copy of a preset whose task is another, with other fields."""
    preset = Path(shutil.copytree(GOLDEN / name, folder / "preset"))
    config = json.loads((preset / "task.json").read_text())
    config["class_name"] = task
    config["config"] |= fields
    (preset / "task.json").write_text(json.dumps(config))
    return preset


def test_a_head_of_no_class_is_refused_and_the_backbone_converts(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    preset = preset_with("bert+classifier", "BertTextEmbedder", tmp_path)
    outcome = cli("convert", preset, tmp_path / "out", "--to", "pytorch")
    assert outcome.code == 2
    assert (
        "no class of transformers here has the head of KerasHub's BertTextEmbedder" in outcome.err
    )
    assert "--allow-lossy" in outcome.err
    assert not os.path.lexists(tmp_path / "out")
    convert(preset, tmp_path / "out", to="pytorch", allow_lossy=True)
    convert(GOLDEN / "bert", tmp_path / "backbone", to="pytorch")
    found, expected = (
        load_file(tmp_path / one / "model.safetensors") for one in ("out", "backbone")
    )
    assert found.keys() == expected.keys()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]


def test_a_head_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    preset = preset_with("bert+classifier", "BertTextClassifier", tmp_path, activation="softmax")
    with pytest.raises(ArchitectureError, match="is no model of transformers") as refused:
        convert(preset, tmp_path / "out", to="pytorch")
    assert "activation: 'linear'" in str(refused.value)


@pytest.mark.parametrize("kind", ["CausalLM", "Seq2SeqLM"])
def test_a_task_without_weights_of_its_own_is_the_class_with_the_tied_layer(
    kind: str, tmp_path: Path
) -> None:
    name, task, cls = {
        "CausalLM": ("gpt2", "GPT2CausalLM", "GPT2LMHeadModel"),
        "Seq2SeqLM": ("bart", "BartSeq2SeqLM", "BartForConditionalGeneration"),
    }[kind]
    preset = Path(shutil.copytree(GOLDEN / name, tmp_path / "preset"))
    (preset / "task.json").write_text(json.dumps({"class_name": task, "config": {}}))
    convert(preset, tmp_path / "out", to="pytorch")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == [cls]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("esm+masked", "--allow-lossy writes EsmForMaskedLM without its contact"),
        ("xlm-roberta", "--allow-lossy writes XLMRobertaModel without the head"),
    ],
)
def test_what_stays_behind_is_named(name: str, text: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", name)
    with pytest.raises(CoverageError) as refused:
        convert(source, tmp_path / "out", to="keras-hub")
    assert text in str(refused.value)


def test_labels_are_as_many_as_classes(tmp_path: Path) -> None:
    convert(GOLDEN / "roberta+classifier", tmp_path / "out", to="pytorch")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {str(i): f"LABEL_{i}" for i in range(5)}
    assert "num_labels" not in config


def test_an_output_layer_apart_is_refused(tmp_path: Path) -> None:
    """KerasHub's heads for masked words always have the embeddings."""
    source = write_source(tmp_path / "source", "roberta+masked")
    tensors = load_file(source / "model.safetensors")
    other = np.ones_like(tensors["roberta.embeddings.word_embeddings.weight"])
    save_file({**tensors, "lm_head.decoder.weight": other}, source / "model.safetensors")
    with pytest.raises(CoverageError, match="is not equal to"):
        convert(source, tmp_path / "out", to="keras-hub")


def test_a_task_has_a_preprocessor_where_the_tokenizer_comes_along(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", "bert+classifier")
    convert(source, tmp_path / "bare", to="keras-hub")
    task = json.loads((tmp_path / "bare" / "task.json").read_text())
    assert task["config"]["preprocessor"] is None
    (source / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    convert(source, tmp_path / "preset", to="keras-hub")
    task, alone = (
        json.loads((tmp_path / "preset" / one).read_text())
        for one in ("task.json", "preprocessor.json")
    )
    made = task["config"]["preprocessor"]
    assert made == alone
    assert made["registered_name"] == "keras_hub>BertTextClassifierPreprocessor"
    assert made["config"]["sequence_length"] == 16
    assert made["config"]["tokenizer"]["registered_name"] == "keras_hub>BertTokenizer"
    assert verify(tmp_path / "preset", source=source).findings == ()
    convert(tmp_path / "preset", tmp_path / "again", to="keras-hub")
    for one in ("task.json", "preprocessor.json", "config.json"):
        assert (tmp_path / "again" / one).read_bytes() == (tmp_path / "preset" / one).read_bytes()


def test_both_files_are_opened_and_the_optimizer_is_left_out() -> None:
    checkpoint = open_checkpoint(GOLDEN / "bert+classifier")
    assert {path.name for path in checkpoint.files} == {"model.weights.h5", "task.weights.h5"}
    assert "task/layers/dense/vars/0" in checkpoint.tensors
    assert set(checkpoint.left_out) == {"task/optimizer/vars/0", "task/optimizer/vars/1"}


def test_a_head_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    preset = Path(shutil.copytree(GOLDEN / "bert+classifier", tmp_path / "preset"))
    shutil.move(preset / "task.weights.h5", tmp_path / "elsewhere.h5")
    (preset / "task.weights.h5").symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(CheckpointError, match="task"):
        open_checkpoint(preset)


def test_the_detector_of_a_video_model_is_found_by_its_name(tmp_path: Path) -> None:
    """``--subtree detector_model`` takes ``detector_config`` where the whole is of no known type."""
    source = write_source(tmp_path / "source", "sam3")
    tensors = load_file(source / "model.safetensors")
    inner = json.loads((source / "config.json").read_text())
    whole = {f"detector_model.{name}": value for name, value in tensors.items()}
    other = {"tracker_model.scale": np.ones(3, np.float32)}
    save_file({**whole, **other}, source / "model.safetensors", {"format": "pt"})
    config = {"model_type": "sam3_video", "detector_config": inner}
    (source / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(source, subtree="detector_model")
    assert checkpoint.config is not None
    assert checkpoint.config.model_type == "sam3"
    convert(source, tmp_path / "preset", to="keras-hub", subtree="detector_model")
    found, golden = (
        open_checkpoint(folder).tensors for folder in (tmp_path / "preset", GOLDEN / "sam3")
    )
    assert found.keys() == golden.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "is not an object"),
        ('{"class_name": ["x"], "config": {}}', "no class of transformers here has the head"),
        (
            '{"class_name": "BertTextClassifier", "config": {"num_classes": -1}}',
            "num_classes: a positive",
        ),
        (
            '{"class_name": "BertTextClassifier", "config": {"num_classes": true}}',
            "num_classes: a positive",
        ),
    ],
)
def test_a_task_that_is_none_is_bad_input(
    text: str, message: str, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    preset = Path(shutil.copytree(GOLDEN / "bert+classifier", tmp_path / "preset"))
    (preset / "task.json").write_text(text)
    outcome = cli("convert", preset, tmp_path / "out", "--to", "pytorch")
    assert outcome.code == 2
    assert message in outcome.err
    assert not os.path.lexists(tmp_path / "out")


def test_a_number_of_labels_that_no_head_has_is_corrected(tmp_path: Path) -> None:
    preset = preset_with("bert+classifier", "BertTextClassifier", tmp_path, num_classes=10**12)
    manifest = convert(preset, tmp_path / "out", to="pytorch")
    assert "the classifier has 5 rows and task.json says" in str(manifest.values["notes"])


def test_a_head_beside_shards_is_read(tmp_path: Path) -> None:
    preset = Path(shutil.copytree(GOLDEN / "bert+classifier", tmp_path / "preset"))
    shutil.move(preset / "model.weights.h5", preset / "model_00000.weights.h5")
    listed = {"weight_map": {"/layers/dense/vars": "model_00000.weights.h5"}}
    (preset / "model.weights.json").write_text(json.dumps(listed))
    checkpoint = open_checkpoint(preset)
    assert "task/layers/dense/vars/0" in checkpoint.tensors
    assert "layers/dense/vars/0" in checkpoint.tensors
