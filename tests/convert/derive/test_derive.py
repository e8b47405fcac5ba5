"""Files derived from PyTorch's models: exact, and usable for a conversion to Flax's layout and back."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import ArchitectureError, InputError
from equipoise.convert.verify import verify

pytestmark = pytest.mark.transformers

LLAMA_LIKE = {
    "model_type": "glm4_moe",
    "architectures": ["Glm4MoeForCausalLM"],
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 20,
    "moe_intermediate_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "n_routed_experts": 3,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random mixture of experts of an architecture without a TOML; its first layer is dense."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("moe")
    values = {key: one for key, one in LLAMA_LIKE.items() if key != "architectures"}
    config = transformers.CONFIG_MAPPING["glm4_moe"].from_dict(values)
    transformers.Glm4MoeForCausalLM(config).save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, tuple[Any, ...]]:
    return {
        name: (ref.dtype, ref.shape, ref.read().tobytes())
        for name, ref in open_checkpoint(folder).items()
    }


def test_an_unknown_architecture_is_converted_to_flax_and_back(
    saved: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    refused = cli("convert", saved, tmp_path / "no", "--to", "flax")
    assert refused.code == 2
    assert "equipoise derive" in refused.err
    file = tmp_path / "moe.toml"
    done = cli("derive", saved, "--output", file, "--class", "Glm4MoeForCausalLM")
    assert done.code == 0, done.err
    assert "1 of 1 classes are exact" in done.err
    text = tomllib.loads(file.read_text())
    lines = {path: one for group in text["modules"].values() for path, one in group.items()}
    assert lines["model.embed_tokens"] == "embedding(vocab_size, hidden_size)"
    start = "model.layers.{layer}"
    expert = lines[f"{start}.mlp.experts.{{expert}}.gate_proj"]
    assert expert["kind"] == "linear(hidden_size, moe_intermediate_size, bias=False)"
    assert "first_k_dense_replace" in expert["when"]
    assert text["ties"]["lm_head.weight"]["when"] == "tie_word_embeddings"
    assert cli("derive", saved, "--output", file).code == 2

    flax = tmp_path / "flax"
    assert cli("convert", saved, flax, "--to", "flax", "--architecture", file).code == 0
    same = cli("diff", saved, flax, "--architecture", file)
    assert same.code == 0, same.out + same.err
    assert cli("diff", saved, flax).code == 2
    kernel = open_checkpoint(flax)["model/layers/1/mlp/experts/2/gate_proj/kernel"]
    weight = open_checkpoint(saved)["model.layers.1.mlp.experts.2.gate_proj.weight"]
    assert (kernel.read() == weight.read().T).all()
    with pytest.raises(InputError, match="the conversion used the architecture file"):
        verify(flax, source=saved)
    assert verify(flax, source=saved, architecture=str(file)).findings == ()
    back = tmp_path / "back"
    assert cli("convert", flax, back, "--to", "pytorch", "--architecture", file).code == 0
    assert tensors(back) == tensors(saved)
    refused = cli("convert", saved, tmp_path / "tf", "--to", "tensorflow", "--architecture", file)
    assert refused.code == 2
    assert "has no class in tensorflow" in refused.err


def test_json(cli: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    found = cli("derive", "gpt2", "--class", "GPT2LMHeadModel", "--class", "GPT2Model", "--json")
    assert found.code == 0
    assert found.data["classes"] == {"GPT2LMHeadModel": [], "GPT2Model": []}
    text = tomllib.loads(found.data["text"])
    assert text["prefix"] == "transformer"
    assert text["classes"]["Model"]["base"] is True
    lines = text["modules"]["body"]
    inner = "(n_inner) if n_inner else (4 * n_embd)"
    assert lines["transformer.h.{h}.mlp.c_fc"] == f"hf_conv1d(n_embd, {inner})"
    assert lines["transformer.h.{h}.ln_1"] == "norm(n_embd)"
    assert text["repeat"] == {"h": "n_layer"}


def test_a_further_config_reveals_more_than_the_first(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    pytest.importorskip("torch")
    small = {"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 2, "ffn_dim": 20}
    small |= {"num_attention_heads": 2, "vocab_size": 40, "max_position_embeddings": 12}
    small |= {"word_embed_proj_dim": 16}
    for name, one in (("plain", small), ("narrow", {**small, "word_embed_proj_dim": 8})):
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    plain, narrow = tmp_path / "plain.json", tmp_path / "narrow.json"
    found = cli("derive", plain, "--class", "OPTModel", "--also", narrow, "--json")
    assert found.code == 0, found.err
    text = tomllib.loads(found.data["text"])
    lines = {path: one for group in text["modules"].values() for path, one in group.items()}
    projection = next(one for path, one in lines.items() if path.endswith("project_in"))
    assert projection["kind"] == "linear(word_embed_proj_dim, hidden_size, bias=False)"
    assert projection["when"] in (
        "hidden_size != word_embed_proj_dim",
        "word_embed_proj_dim != hidden_size",
    )
    (tmp_path / "other.json").write_text(json.dumps({"model_type": "gpt2"}))
    refused = cli("derive", plain, "--also", tmp_path / "other.json")
    assert refused.code == 2
    assert "a further config is of another model type" in refused.err


def test_fields_that_a_config_computes_are_computed_again(cli: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    found = cli("derive", "t5", "--class", "T5EncoderModel", "--json")
    assert found.code == 0, found.err
    text = tomllib.loads(found.data["text"])
    lines = {path: one for group in text["modules"].values() for path, one in group.items()}
    gate = lines["encoder.block.{block}.layer.1.DenseReluDense.wi_0"]
    assert gate["kind"] == "linear(d_model, d_ff, bias=False)"
    assert "feed_forward_proj" in gate["when"]
    assert "is_gated_act" not in found.data["text"]


TEXTNET = {
    "stem_num_channels": 3,
    "stem_out_channels": 12,
    "conv_layer_kernel_sizes": [[[3, 3], [3, 1]], [[3, 3], [1, 3]]],
    "conv_layer_strides": [[1, 2], [2, 1]],
    "hidden_sizes": [12, 12, 20],
    "image_size": [32, 32],
    "stage_names": ["stem", "stage1", "stage2"],
    "out_features": ["stage2"],
    "num_labels": 5,
}


def test_modules_without_an_expression_are_written_for_the_given_config(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    """A shortcut exists where a stride in a list of lists is one; the language cannot index lists of lists."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    saved = {}
    for name, strides in (("given", [[1, 2], [2, 1]]), ("other", [[2, 2], [2, 1]])):
        config = transformers.TextNetConfig(**{**TEXTNET, "conv_layer_strides": strides})
        saved[name] = tmp_path / name
        transformers.TextNetForImageClassification(config).save_pretrained(saved[name])
    file = tmp_path / "textnet.toml"
    done = cli("derive", saved["given"], "--output", file)
    assert done.code == 1
    assert "all are exact under the given config" in done.err
    assert (
        "no expression, exact for the given config only: textnet.encoder.stages.0.stage.0.rbr_identity"
        in done.err
    )
    text = tomllib.loads(file.read_text())
    lines = {path: one for group in text["modules"].values() for path, one in group.items()}
    assert lines["textnet.encoder.stages.0.stage.0.rbr_identity"] == "batch_norm(12)"

    flax, back = tmp_path / "flax", tmp_path / "back"
    assert cli("convert", saved["given"], flax, "--to", "flax", "--architecture", file).code == 0
    assert cli("convert", flax, back, "--to", "pytorch", "--architecture", file).code == 0
    assert tensors(back) == tensors(saved["given"])
    refused = cli(
        "convert", saved["other"], tmp_path / "no", "--to", "flax", "--architecture", file
    )
    assert refused.code == 2
    assert "rbr_identity" in refused.err
    assert not (tmp_path / "no").exists()


def test_mistakes_are_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from equipoise.convert.derive import derive

    with pytest.raises(ArchitectureError, match="has no model type 'berd'"):
        derive("berd")
    with pytest.raises(InputError, match="has no class 'BertForTea'"):
        derive("bert", ["BertForTea"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_type = ", "cannot be read"),
        ("name = 'X'", "not an architecture file"),
        ("model_type = 'x'\nweights = 1", "unknown section"),
        ("model_type = 3", "model_type is not a string"),
        (
            "model_type = 'x'\n[classes]\nA = ['b']\n[modules.b]\n'a.{i}' = 'linear(2, 3)'",
            "'a.{i}' uses an index that is not under [repeat]",
        ),
        ("extends = '../x'\nmodel_type = 'x'", "does not extend another file"),
        ("extends = 'my'\nmodel_type = 'x'", "does not extend another file"),
        ("model_type = 'x'\n[modules.body]\na = 'linear(2, 3)'", "there are no classes"),
    ],
)
def test_a_bad_architecture_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x"}))
    from safetensors.numpy import save_file

    save_file({}, tmp_path / "model.safetensors")
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(ArchitectureError, match=re.escape(message)):
        convert(tmp_path, tmp_path / "out", to="flax", architecture=str(file))
