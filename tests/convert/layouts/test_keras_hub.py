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

from equipoise.convert import convert, open_checkpoint, plan
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.keras_hub_config import read_keras_hub_config
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.core.errors import ArchitectureError, CoverageError
from equipoise.convert.layouts import keras_hub
from equipoise.convert.verify import verify
from equipoise.fixtures.keras_hub_models import (
    MODELS,
    config_of,
    flat_fields,
    is_left_to_keras_hub,
    model_type_of,
    write_source,
)

GOLDEN = Path(__file__).parent / "golden" / "keras_hub"


def test_every_architecture_with_the_layout_is_judged() -> None:
    known = {name for name in spec_names() if _has_layout(name)}
    assert known == {model_type_of(name) for name in MODELS}


def _has_layout(name: str) -> bool:
    spec = load_spec(name)
    return spec is not None and bool(spec.layouts["keras_hub"])


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_what_keras_hub_writes(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", name)
    manifest = convert(source, tmp_path / "preset", to="keras-hub", allow_lossy=True)
    has_head = MODELS[name].get("head", False)
    assert has_head == ("no such head" in str(manifest.values["notes"]))
    assert verify(tmp_path / "preset", source=source).findings == ()
    made, golden = (
        open_container(folder / "model.weights.h5").tensors
        for folder in (tmp_path / "preset", GOLDEN / name)
    )
    assert made.keys() == golden.keys()
    for path, ref in golden.items():
        assert made[path].shape == ref.shape, path
        if path.endswith("/rotary_embedding/vars/0"):  # computed, up to the last bit of a power
            assert np.allclose(made[path].read(), ref.read(), rtol=1e-6)
        else:
            assert made[path].read().tobytes() == ref.read().tobytes(), path
    assert (tmp_path / "preset" / "task.json").exists() == ("task" in MODELS[name])
    for file in ("config.json", *(["task.json"] if "task" in MODELS[name] else [])):
        config, expected = (
            json.loads((folder / file).read_text())
            for folder in (tmp_path / "preset", GOLDEN / name)
        )
        ours, theirs = config.pop("config"), expected.pop("config")
        assert config == expected
        written, whole = set(flat_fields(ours)), set(flat_fields(theirs))
        assert written <= whole
        left = {(key.removeprefix("backbone.config."), value) for key, value in whole - written}
        assert {one for one in left if not is_left_to_keras_hub(one)} == set()


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_comes_back(name: str, tmp_path: Path) -> None:
    source, model = write_source(tmp_path / "source", name), MODELS[name]
    convert(GOLDEN / name, tmp_path / "back", to="pytorch")
    assert verify(tmp_path / "back", source=GOLDEN / name).findings == ()
    spec = load_spec(model_type_of(name))
    assert spec is not None
    found, expected = (
        {
            key.removeprefix(f"{spec.prefix}."): value
            for key, value in load_file(path / "model.safetensors").items()
        }
        for path in (tmp_path / "back", source)
    )
    made = {one for one in found if one in model.get("made", ())}
    assert found.keys() - made <= expected.keys()
    assert model.get("head", False) or expected.keys() <= found.keys()
    for key in found.keys() - made:
        assert np.array_equal(found[key], expected[key]), key
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["model_type"] == spec.model_type
    fields, own = dict(flat_fields(config_of(name))), dict(flat_fields(config))
    lost = {key for key, value in fields.items() if own.get(key, "null") != value}
    assert lost == set(model.get("lost", ()))


@pytest.mark.slow
@pytest.mark.transformers
@pytest.mark.parametrize("name", MODELS)
def test_the_sources_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """The classes of transformers find every weight and shape in what the architecture files say."""
    transformers = pytest.importorskip("transformers")
    cls = getattr(transformers, MODELS[name]["class"])
    pad = {"pad_token_id": 0} if name == "smollm3" else {}
    source = write_source(tmp_path / "source", name)
    _, found = cls.from_pretrained(source, output_loading_info=True, **pad)
    unused = {one for one in found["unexpected_keys"] if not one.endswith("inv_freq")}
    assert not unused
    assert not found["missing_keys"]
    assert not found["mismatched_keys"]


@pytest.mark.parametrize("name", ["bart", "roberta", "xlm-roberta", "paligemma"])
def test_what_comes_back_otherwise(name: str, tmp_path: Path) -> None:
    """Rows that no token uses are zeros; a segment that all tokens have stays with the positions."""
    source = load_file(write_source(tmp_path / "source", name) / "model.safetensors")
    notes = plan(open_checkpoint(tmp_path / "source"), "keras-hub", allow_lossy=True).notes
    dropped = [one for one in notes if "which no token uses, are left out" in one]
    assert len(dropped) == (2 if name == "bart" else 1)
    assert ("roberta" in name) == any("is added to every row of" in one for one in notes)
    convert(GOLDEN / name, tmp_path / "back", to="pytorch")
    found = load_file(tmp_path / "back" / "model.safetensors")
    if name == "paligemma":
        rows = found["language_model.model.embed_tokens.weight"]
        before = source["language_model.model.embed_tokens.weight"]
        assert np.array_equal(rows[:29], before[:29])
        assert rows.shape == before.shape
        assert not rows[29:].any()
        return
    starts = {"bart": ["encoder.embed_positions", "decoder.embed_positions"]}
    for start in starts.get(name, ["embeddings.position_embeddings"]):
        (rows,) = (value for key, value in found.items() if key.endswith(f"{start}.weight"))
        (before,) = (value for key, value in source.items() if key.endswith(f"{start}.weight"))
        if name == "xlm-roberta":
            before = before + source["roberta.embeddings.token_type_embeddings.weight"]
        assert np.array_equal(rows[2:], before[2:])
        assert not rows[:2].any()
    if name == "xlm-roberta":
        assert not found["embeddings.token_type_embeddings.weight"].any()
    if name == "bart":
        assert not found["final_logits_bias"].any()


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


@pytest.mark.parametrize("model_type", ["llama", "mistral", "mixtral", "gpt_oss"])
def test_a_tied_output_layer_is_stored_twice(model_type: str) -> None:
    """These classes of KerasHub save a preset without saying that it is tied, so each half is there."""
    spec = load_spec(model_type)
    assert spec is not None
    config = Config({**config_of(model_type), "tie_word_embeddings": True})
    view = keras_hub.view(expand(spec, spec.classes["ForCausalLM"], config))
    rules = {rule.sources[0]: rule for rule in view.rules}
    assert rules["model.embed_tokens.weight"].targets == ("layers/reversible_embedding/vars/0",)
    assert rules["lm_head.weight"].targets == ("layers/reversible_embedding/vars/1",)
    assert not view.shared


@pytest.mark.parametrize("model_type", ["mistral", "mixtral", "gpt_oss"])
def test_no_window_is_said(model_type: str, tmp_path: Path) -> None:
    """KerasHub's classes have a window by default."""
    source = write_source(tmp_path / "source", model_type)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "sliding_window": None}))
    convert(source, tmp_path / "preset", to="keras-hub")
    preset = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert preset["config"]["sliding_window"] is None


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
        ("gemma", "rope_theta", 5000.0, "rope_theta: 10000.0"),
        ("gpt2", "activation_function", "relu", "activation_function: 'gelu_new'"),
        ("qwen2", "rope_scaling", {"rope_type": "yarn", "factor": 4.0}, "rope_scaling: None"),
        ("qwen2", "rope_parameters", {"rope_type": "yarn", "factor": 4.0}, "rope_scaling: None"),
        ("qwen3", "use_sliding_window", True, "use_sliding_window: False"),
        ("roberta", "layer_norm_eps", 1e-12, "layer_norm_eps: 1e-05"),
    ],
)
def test_what_keras_hub_does_not_compute_is_refused(
    name: str, field: str, value: object, text: str, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", name)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ArchitectureError, match="does not compute") as refused:
        convert(source, tmp_path / "preset", to="keras-hub", allow_lossy=True)
    assert text in str(refused.value)
    assert not os.path.lexists(tmp_path / "preset")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("vit", "image_shape", [16, 12, 3]),
        ("vit", "use_class_token", False),
        ("qwen3", "sliding_window_size", 128),
        ("gemma3", "local_rope_scaling_factor", 2.0),
    ],
)
def test_a_preset_that_transformers_does_not_compute_is_refused(
    name: str, field: str, value: object, tmp_path: Path
) -> None:
    preset = Path(shutil.copytree(GOLDEN / name, tmp_path / "preset"))
    config = json.loads((preset / "config.json").read_text())
    config["config"][field] = value
    (preset / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchitectureError, match="is no model of transformers") as refused:
        convert(preset, tmp_path / "back", to="pytorch")
    assert field in str(refused.value)
    assert not os.path.lexists(tmp_path / "back")


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
    assert "BertBackbone, " in outcome.err
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


ARGUMENTS = {
    "vocab.txt": ["vocabulary"],
    "vocab.json": ["vocabulary", "merges"],
    ".model": ["proto"],
}


@pytest.mark.parametrize("name", MODELS)
def test_every_file_of_a_tokenizer_goes_both_ways(name: str, tmp_path: Path) -> None:
    """KerasHub's class takes null for a file that lies beside; without the argument it does not load."""
    spec = load_spec(model_type_of(name))
    assert spec is not None
    files = spec.layouts["keras_hub"]["keras"].get("tokenizer", {}).get("files", [])
    if not files:
        pytest.skip("KerasHub makes its vocabulary of tokenizer.json")
    source = write_source(tmp_path / "source", name)
    for file in files:
        (source / file).write_text(f"not read: {file}")
    convert(source, tmp_path / "preset", to="keras-hub", allow_lossy=True)
    convert(tmp_path / "preset", tmp_path / "back", to="pytorch")
    assert {file: (tmp_path / "back" / file).read_text() for file in files} == {
        file: f"not read: {file}" for file in files
    }
    config = json.loads((tmp_path / "preset" / "tokenizer.json").read_text())["config"]
    wanted = next(names for end, names in ARGUMENTS.items() if files[0].endswith(end))
    assert all(config[argument] is None for argument in wanted)
    assert config["config_file"] == "tokenizer.json"


def test_the_page_lists_every_class() -> None:
    page = (Path(__file__).parents[3] / "docs" / "keras-hub.md").read_text(encoding="utf-8")
    for model_type in {model_type_of(name) for name in MODELS}:
        spec = load_spec(model_type)
        assert spec is not None
        classes = spec.layouts["keras_hub"]["keras"]["classes"]
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{model_type}` |"))
        for key, theirs in classes.items():
            assert spec.classes[key].name in row
            assert theirs in row
