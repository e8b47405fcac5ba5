"""KerasHub's backbones: what KerasHub's own converter made of a folder of transformers is what is written, and comes back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.keras_hub_config import read_keras_hub_config
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.core.errors import ArchitectureError, CoverageError
from equipoise.convert.layouts import keras_hub
from equipoise.convert.verify import verify
from equipoise.fixtures.keras_hub_models import MODELS, TOKENS, write_source

GOLDEN = Path(__file__).parent / "golden" / "keras_hub"


def test_every_architecture_with_the_layout_is_judged() -> None:
    known = {name for name in spec_names() if _has_layout(name)}
    assert known == MODELS.keys()


def _has_layout(name: str) -> bool:
    spec = load_spec(name)
    return spec is not None and bool(spec.layouts["keras_hub"])


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_what_keras_hub_writes(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", name)
    manifest = convert(source, tmp_path / "preset", to="keras-hub", allow_lossy=True)
    assert (name == "distilbert") == ("no such head" in str(manifest.values["notes"]))
    assert verify(tmp_path / "preset", source=source).findings == ()
    made, golden = (
        open_container(folder / "model.weights.h5").tensors
        for folder in (tmp_path / "preset", GOLDEN / name)
    )
    assert made.keys() == golden.keys()
    for path, ref in golden.items():
        assert made[path].shape == ref.shape, path
        assert made[path].read().tobytes() == ref.read().tobytes(), path
    config, expected = (
        json.loads((folder / "config.json").read_text())
        for folder in (tmp_path / "preset", GOLDEN / name)
    )
    ours, theirs = config.pop("config"), expected.pop("config")
    assert config == expected
    assert {field: theirs[field] for field in ours} == ours


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_comes_back(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", name)
    convert(GOLDEN / name, tmp_path / "back", to="pytorch")
    found, expected = (
        {
            key.removeprefix("distilbert.").removeprefix("transformer."): value
            for key, value in load_file(path).items()
            if not key.startswith("vocab_")
        }
        for path in (tmp_path / "back" / "model.safetensors", source / "model.safetensors")
    )
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], value) for key, value in expected.items())
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    cls, fields = MODELS[name]
    assert config["model_type"] == name
    same = {"max_position_embeddings", "tie_word_embeddings", "n_inner"}
    assert {key: config[key] for key in fields.keys() - same} == {
        key: value for key, value in fields.items() if key not in same
    }
    assert cls.startswith(load_spec(name).classes["Model"].name.removesuffix("Model"))  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.transformers
@pytest.mark.parametrize("name", MODELS)
def test_pytorch_computes_what_keras_hub_computes(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    convert(GOLDEN / name, tmp_path / "back", to="pytorch")
    model = transformers.AutoModel.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():
        found = model(input_ids=torch.tensor(TOKENS)).last_hidden_state.numpy()
    expected = load_file(GOLDEN / "outputs.safetensors")[name]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_preset_converts_to_flax(tmp_path: Path, cli: Callable[..., Any]) -> None:
    convert(GOLDEN / "bert", tmp_path / "flax", to="flax")
    convert(write_source(tmp_path / "source", "bert"), tmp_path / "expected", to="flax")
    made, expected = (
        {key: ref.read() for key, ref in open_checkpoint(folder).items()}
        for folder in (tmp_path / "flax", tmp_path / "expected")
    )
    assert made.keys() == expected.keys()
    assert all(np.array_equal(made[key], value) for key, value in expected.items())
    outcome = cli("inspect", GOLDEN / "llama")
    assert "LlamaForCausalLM" in outcome.out
    assert "keras-hub" in outcome.out


def test_layers_are_numbered_as_keras_does() -> None:
    spec = load_spec("bert")
    assert spec is not None
    config = read_keras_hub_config(open_checkpoint(GOLDEN / "bert").config).with_edits(  # type: ignore[arg-type]
        {"num_hidden_layers": 12}
    )
    view = keras_hub.view(expand(spec, spec.classes["Model"], config))
    names = {name for rule in view.rules for name in rule.targets}
    assert "layers/transformer_encoder/_feedforward_layer_norm/vars/0" in names
    assert "layers/transformer_encoder_11/_feedforward_layer_norm/vars/0" in names
    assert not any("#" in name for name in names)


@pytest.mark.parametrize(
    ("name", "field", "value", "text"),
    [
        ("bert", "hidden_act", "relu", "hidden_act: 'gelu'"),
        ("llama", "rope_scaling", {"rope_type": "llama3", "factor": 8.0}, "rope_scaling: None"),
        ("gpt2", "activation_function", "relu", "activation_function: 'gelu_new'"),
    ],
)
def test_what_keras_hub_does_not_compute_is_refused(
    name: str, field: str, value: object, text: str, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", name)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ArchitectureError, match="does not compute") as refused:
        convert(source, tmp_path / "preset", to="keras-hub")
    assert text in str(refused.value)
    assert not os.path.lexists(tmp_path / "preset")


def test_heads_and_other_architectures_are_refused(tmp_path: Path, cli: Callable[..., Any]) -> None:
    source = write_source(tmp_path / "source", "distilbert")
    with pytest.raises(
        CoverageError, match=r"no class in keras-hub; --allow-lossy writes DistilBertModel"
    ):
        convert(source, tmp_path / "preset", to="keras-hub")
    preset = Path(shutil.copytree(GOLDEN / "bert", tmp_path / "unknown"))
    text = (preset / "config.json").read_text()
    (preset / "config.json").write_text(text.replace("BertBackbone", "OtherBackbone"))
    outcome = cli("convert", preset, tmp_path / "out", "--to", "pytorch")
    assert outcome.code == 2
    assert "a KerasHub preset of OtherBackbone, which is not read" in outcome.err
    assert "BertBackbone, DistilBertBackbone" in outcome.err
    assert "not read" in cli("inspect", preset).out


def test_a_tokenizer_goes_along(tmp_path: Path) -> None:
    """The vocabulary has KerasHub's name there and transformers' here; what a preset cannot hold is noted."""
    source = write_source(tmp_path / "source", "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(24))]
    (source / "vocab.txt").write_text("\n".join(words) + "\n")
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    (source / "tokenizer.json").write_text("{}")
    manifest = convert(source, tmp_path / "preset", to="keras-hub")
    assert any(
        "tokenizer.json" in note and "not copied" in note for note in manifest.values["notes"]
    )
    assert verify(tmp_path / "preset", source=source).findings == ()
    made = tmp_path / "preset"
    assert (made / "assets/tokenizer/vocabulary.txt").read_text().split() == words
    tokenizer = json.loads((made / "tokenizer.json").read_text())
    assert tokenizer["registered_name"] == "keras_hub>BertTokenizer"
    assert tokenizer["config"]["lowercase"] is False
    convert(made, tmp_path / "back", to="pytorch")
    assert (tmp_path / "back" / "vocab.txt").read_text() == (source / "vocab.txt").read_text()
    assert json.loads((tmp_path / "back" / "tokenizer_config.json").read_text()) == {
        "do_lower_case": False
    }
    assert not (tmp_path / "back" / "tokenizer.json").exists()
    assert verify(tmp_path / "back", source=made).findings == ()
    convert(made, tmp_path / "again", to="keras-hub")
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (
        made / "tokenizer.json"
    ).read_bytes()
    assert (tmp_path / "again" / "config.json").read_bytes() == (made / "config.json").read_bytes()
