"""What a plan refuses, and what it says then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from equipoise.convert import convert, open_checkpoint, plan
from equipoise.convert.config import Config
from equipoise.convert.errors import ArchitectureError, CoverageError, InputError
from equipoise.convert.expand import expand
from equipoise.convert.formats import safetensors
from equipoise.convert.layouts import layout_module
from equipoise.convert.spec import load_spec
from equipoise.convert.steps import Status
from equipoise.convert.tensor import Array, TensorHeader, array_blocks

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 33,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 10,
}
Tensors = dict[str, npt.NDArray[np.generic]]


def tensors(config: dict[str, object], key: str = "ForMaskedLM") -> Tensors:
    """Random weights of a class as PyTorch stores them."""
    spec = load_spec(str(config["model_type"]))
    assert spec is not None
    expansion = expand(spec, spec.classes[key], Config(config))
    view = layout_module("pytorch").view(expansion)
    generator = np.random.default_rng(3)
    return {
        rule.targets[0]: generator.standard_normal(
            expansion.parameters[rule.sources[0]].shape, np.float32
        )
        for rule in view.rules
        if rule.sources[0] not in view.shared and rule.sources[0] not in view.left_out
    }


def write(folder: Path, config: dict[str, object], values: Tensors) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    headers = [TensorHeader(name, value.dtype, value.shape) for name, value in values.items()]
    with safetensors.Writer(folder / "model.safetensors", headers, {"format": "pt"}) as writer:
        for name, value in values.items():
            writer.write(name, array_blocks(np.asarray(value, order="C")))
    return folder


Change = Callable[[dict[str, Array], dict[str, object]], None]


def changed(tmp_path: Path, change: Change, config: dict[str, object] | None = None) -> Path:
    config = dict(config or CONFIG)
    values = tensors(config)
    change(values, config)
    return write(tmp_path / "source", config, values)


def drop(name: str) -> Change:
    return lambda values, config: values.__delitem__(name)


def add(name: str, *shape: int) -> Change:
    return lambda values, config: values.update({name: np.ones(shape, np.float32)})


def setting(**values: object) -> Change:
    return lambda tensors, config: config.update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("bert.encoder.layer.1.output.dense.bias"), "'bert.encoder.layer.1.output.dense.bias' .8. is missing"),
        (add("bert.extra.weight", 3), "'bert.extra.weight' is unknown to BertForMaskedLM: leave it out"),
        (add("qa_outputs.weight", 2, 8), "it belongs to BertForQuestionAnswering"),
        (setting(hidden_size=10), "has shape .33, 8., the config says .33, 10."),
        (setting(num_hidden_layers=3), "'bert.encoder.layer.2.attention.self.query.weight' .8, 8. is missing"),
        (setting(num_hidden_layers=1), "'bert.encoder.layer.1.attention.self.query.weight' is unknown"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, change: Change, message: str) -> None:
    checkpoint = open_checkpoint(changed(tmp_path, change))
    with pytest.raises(CoverageError, match=message):
        plan(checkpoint, "tensorflow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(model_type="mamba"), "unknown architecture: model_type is 'mamba'"),
        (setting(model_type="gpt2"), "none of the tensors belongs to the architecture 'gpt2'"),
        (setting(model_type=None), "unknown architecture"),
    ],
)
def test_another_architecture(tmp_path: Path, change: Change, message: str) -> None:
    checkpoint = open_checkpoint(changed(tmp_path, change))
    with pytest.raises(ArchitectureError, match=message):
        plan(checkpoint, "tensorflow")


def test_allow_takes_names_and_patterns_with_a_reason(tmp_path: Path) -> None:
    def change(values: dict[str, Array], config: dict[str, object]) -> None:
        add("bert.pooler.dense.weight", 8, 8)(values, config)
        add("bert.pooler.dense.bias", 8)(values, config)

    source = changed(tmp_path, change)
    manifest = convert(
        source, tmp_path / "out", to="flax", allow={"bert.pooler.*": "unused by the masked LM"}
    )
    assert set(manifest.values["allowed"]) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    checkpoint = open_checkpoint(source)
    with pytest.raises(InputError, match="no such tensor"):
        plan(checkpoint, "flax", allow={"bert.poller.*": "slip"})
    with pytest.raises(InputError, match="without a reason"):
        plan(checkpoint, "flax", allow={"bert.pooler.*": " "})


def test_an_override_that_overrides_nothing_is_a_mistake(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(changed(tmp_path, setting()))
    with pytest.raises(CoverageError, match="nothing had to be allowed"):
        plan(checkpoint, "flax", allow={"cls.predictions.bias": "why not"})


def test_a_copy_of_a_tie_is_checked_by_value(tmp_path: Path) -> None:
    embedding = "bert.embeddings.word_embeddings.weight"
    copy = "cls.predictions.decoder.weight"
    values = tensors(CONFIG)
    values[copy] = values[embedding].copy()
    same = write(tmp_path / "same", CONFIG, values)
    manifest = convert(same, tmp_path / "out", to="tensorflow")
    assert manifest.values["tied"][copy]["other"] == [embedding]
    values[copy] = values[copy] + np.float32(1)
    other = write(tmp_path / "other", CONFIG, values)
    with pytest.raises(CoverageError, match="would be lost") as refused:
        convert(other, tmp_path / "out2", to="tensorflow")
    assert copy in refused.value.problems[0]
    assert not list(tmp_path.glob("*out2*"))


def test_untied_head_is_refused_by_tensorflow_and_kept_by_flax(tmp_path: Path) -> None:
    config = {**CONFIG, "tie_word_embeddings": False}
    values = tensors(config)
    values["cls.predictions.decoder.bias"] = values["cls.predictions.bias"].copy()
    source = write(tmp_path / "source", config, values)
    with pytest.raises(CoverageError, match="always ties its head"):
        plan(open_checkpoint(source), "tensorflow")
    convert(source, tmp_path / "flax", to="flax")
    convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    back = open_checkpoint(tmp_path / "back")
    assert back.keys() == values.keys()
    head = "cls.predictions.decoder.weight"
    np.testing.assert_array_equal(back[head].read(), values[head])


def test_marian_with_two_vocabularies_fits_neither(tmp_path: Path) -> None:
    config = {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "share_encoder_decoder_embeddings": False,
        "vocab_size": 33,
        "decoder_vocab_size": 29,
        "d_model": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12,
        "max_position_embeddings": 10,
    }
    source = write(tmp_path / "source", config, tensors(config, "MTModel"))
    for layout in ("tensorflow", "flax"):
        with pytest.raises(CoverageError, match="one vocabulary"):
            plan(open_checkpoint(source), layout)


def test_the_class_is_found_from_the_tensors(tmp_path: Path) -> None:
    """bert-base-uncased names BertForMaskedLM in its config and holds a BertForPreTraining."""
    source = write(tmp_path / "source", CONFIG, tensors(CONFIG, "ForPreTraining"))
    planned = plan(open_checkpoint(source), "tensorflow")
    assert planned.architecture == ("bert", "BertForPreTraining")
    assert any("the config names BertForMaskedLM" in note for note in planned.notes)


def test_old_spellings_and_buffers(tmp_path: Path) -> None:
    values = tensors(CONFIG)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in values.items()
    }  # fmt: skip
    old["bert.embeddings.position_ids"] = np.arange(10)[None]
    source = write(tmp_path / "source", CONFIG, old)
    planned = plan(open_checkpoint(source), "flax")
    left_out = [entry for entry in planned.coverage if entry.status is Status.LEFT_OUT]
    assert [entry.name for entry in left_out] == ["bert.embeddings.position_ids"]
    convert(source, tmp_path / "flax", to="flax")
    convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    back = open_checkpoint(tmp_path / "back")
    assert back.keys() == values.keys()


def test_unknown_architecture_still_changes_its_container(tmp_path: Path) -> None:
    values = {"a.weight": np.arange(6, dtype=np.float16).reshape(2, 3)}
    source = write(tmp_path / "source", {"model_type": "nobody-knows"}, values)
    convert(source, tmp_path / "bin", to="pytorch-bin")
    found = open_checkpoint(tmp_path / "bin")
    assert found.container == "pytorch"
    np.testing.assert_array_equal(found["a.weight"].read(), values["a.weight"])


def test_every_tensor_is_accounted_for_once(tmp_path: Path) -> None:
    source = write(tmp_path / "source", CONFIG, tensors(CONFIG))
    checkpoint = open_checkpoint(source)
    planned = plan(checkpoint, "tensorflow")
    assert sorted(e.name for e in planned.coverage if e.side == "source") == sorted(checkpoint)
    targets = sorted(header.name for step in planned.steps for header in step.targets)
    assert sorted(e.name for e in planned.coverage if e.side == "target") == targets


def test_casting_says_when_numbers_overflow(tmp_path: Path) -> None:
    values = tensors(CONFIG)
    values["cls.predictions.bias"][7] = 1e6
    source = write(tmp_path / "source", CONFIG, values)
    with pytest.raises(InputError, match="1 finite numbers become infinite in float16"):
        convert(source, tmp_path / "out", to="flax", dtype="fp16")
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", to="flax", dtype="bf16")
    kinds = {ref.dtype.name for ref in open_checkpoint(tmp_path / "out").values()}
    assert kinds == {"bfloat16"}
