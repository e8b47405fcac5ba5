"""Plans that are refused, and their messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert import convert, open_checkpoint, plan
from equipoise.convert.conversion.coverage import Status
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ArchitectureError, CoverageError, InputError
from equipoise.fixtures.synthetic import expand_class, make_tensors, write_tensors

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
Tensors = dict[str, Array]


def tensors(config: dict[str, object], cls: str = "BertForMaskedLM") -> Tensors:
    return make_tensors(expand_class(str(config["model_type"]), cls, config), seed=3)


def write(folder: Path, config: dict[str, object], values: Tensors) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / "model.safetensors", values)
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
        (setting(hidden_size=10), "39 tensors have another shape .*, e.g. '.*word_embeddings.weight' .33, 8. for .33, 10."),
        (setting(num_hidden_layers=3), "16 tensors are missing: .*, e.g. 'bert.encoder.layer.2.attention.self.query.weight' .8, 8."),
        (setting(num_hidden_layers=1), "16 tensors are unknown to .*, e.g. 'bert.encoder.layer.1."),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, change: Change, message: str) -> None:
    checkpoint = open_checkpoint(changed(tmp_path, change))
    with pytest.raises(CoverageError, match=message):
        plan(checkpoint, "tensorflow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            setting(model_type="mamba", architectures=None),
            "unknown architecture: model_type is 'mamba'",
        ),
        (setting(model_type="gpt2"), "none of the tensors belongs to the architecture 'gpt2'"),
        (setting(model_type=None, architectures=None, hidden_size=7), "unknown architecture"),
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


def test_an_unused_allow_is_an_error(tmp_path: Path) -> None:
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
    source = write(tmp_path / "source", config, tensors(config, "MarianMTModel"))
    for layout in ("tensorflow", "flax"):
        with pytest.raises(CoverageError, match="one vocabulary"):
            plan(open_checkpoint(source), layout)


def test_the_class_is_found_from_the_tensors(tmp_path: Path) -> None:
    """bert-base-uncased names BertForMaskedLM in its config and holds a BertForPreTraining."""
    source = write(tmp_path / "source", CONFIG, tensors(CONFIG, "BertForPreTraining"))
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
    with pytest.raises(InputError, match="1 finite values overflow in float16"):
        convert(source, tmp_path / "out", to="flax", dtype="fp16")
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", to="flax", dtype="bf16")
    kinds = {ref.dtype.name for ref in open_checkpoint(tmp_path / "out").values()}
    assert kinds == {"bfloat16"}


WAV2VEC2 = {
    "model_type": "wav2vec2",
    "architectures": ["Wav2Vec2ForCTC"],
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "conv_dim": [4, 4],
    "conv_kernel": [3, 3],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


@pytest.mark.parametrize(
    ("config", "cls", "refused"),
    [
        (
            {**CONFIG, "position_embedding_type": "relative_key"},
            "BertForMaskedLM",
            {"tensorflow": "no relative positions", "flax": "no relative positions"},
        ),
        (
            {**WAV2VEC2, "adapter_attn_dim": 3},
            "Wav2Vec2ForCTC",
            {"tensorflow": "no attention adapters", "flax": "no attention adapters"},
        ),
        ({**WAV2VEC2, "add_adapter": True}, "Wav2Vec2ForCTC", {"tensorflow": "no adapter"}),
        (
            {**WAV2VEC2, "do_stable_layer_norm": False},
            "Wav2Vec2ForCTC",
            {"flax": "only the stable layer norm"},
        ),
    ],
)
def test_switches_that_a_framework_lacks(
    config: dict[str, object], cls: str, refused: dict[str, str], tmp_path: Path
) -> None:
    source = write(tmp_path / "source", config, tensors(config, cls))
    for layout in ("tensorflow", "flax"):
        if layout in refused:
            with pytest.raises(CoverageError, match=refused[layout]):
                plan(open_checkpoint(source), layout)
        else:
            assert plan(open_checkpoint(source), layout).steps


def test_masking_parameter_that_nothing_reads(tmp_path: Path) -> None:
    """Without masking PyTorch and TF have no masked_spec_embed; Flax has one whatever the config says."""
    config = {**WAV2VEC2, "mask_time_prob": 0.0}
    values = tensors(config, "Wav2Vec2ForCTC")
    assert "wav2vec2.masked_spec_embed" not in values
    source = write(tmp_path / "source", config, values)
    manifest = convert(source, tmp_path / "flax", to="flax")
    assert list(manifest.values["computed"]) == ["wav2vec2/masked_spec_embed"]
    found = open_checkpoint(tmp_path / "flax")["wav2vec2/masked_spec_embed"]
    assert found.read().tolist() == [0] * 8
    convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    assert open_checkpoint(tmp_path / "back").keys() == values.keys()


def test_biases_that_only_tensorflow_has_must_be_zero(tmp_path: Path) -> None:
    config: dict[str, object] = {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "image_size": 4,
        "patch_size": 2,
        "qkv_bias": False,
    }
    source = write(tmp_path / "source", config, tensors(config, "ViTModel"))
    manifest = convert(source, tmp_path / "tf", to="tensorflow-safetensors")
    biases = [
        f"vit/encoder/layer_._0/attention/attention/{n}/bias:0" for n in ("query", "key", "value")
    ]
    assert sorted(manifest.values["computed"]) == sorted(biases)
    convert(tmp_path / "tf", tmp_path / "back", to="pytorch")
    assert open_checkpoint(tmp_path / "back").keys() == open_checkpoint(source).keys()
    trained = {name: ref.read() for name, ref in open_checkpoint(tmp_path / "tf").items()}
    trained[biases[0]] = trained[biases[0]] + np.float32(0.5)
    write_tensors(tmp_path / "tf" / "model.safetensors", trained, {"format": "tf"})
    with pytest.raises(CoverageError, match="would be lost"):
        convert(tmp_path / "tf", tmp_path / "back2", to="pytorch")
