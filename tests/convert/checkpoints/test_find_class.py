"""Configs of early releases, of one's own and out of step with the tensors; ties under another name; causes of many misfits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from equipoise.convert import convert
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, CoverageError
from equipoise.convert.core.hints import install_hint
from equipoise.convert.verify import verify
from equipoise.exporters.target import find_target, target_names
from equipoise.fixtures.synthetic import BERT_CONFIG, expand_class, make_tensors

CLASSIFIER, MASKED_LM = "BertForSequenceClassification", "BertForMaskedLM"
EMBEDDING, DECODER = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"


def tensors_of(cls: str, model_type: str = "bert", **sizes: int) -> dict[str, Array]:
    return make_tensors(expand_class(model_type, cls, {**BERT_CONFIG, **sizes}))


def stored(
    folder: Path,
    tensors: Mapping[str, Array],
    config: Mapping[str, object],
    name: str = "config.json",
) -> Path:
    folder.mkdir()
    (folder / name).write_text(json.dumps({**BERT_CONFIG, **config}))
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def assert_round_trip(source: Path, scratch: Path, expected: Mapping[str, Array]) -> list[str]:
    """Converts there and back, compares with what was stored, and returns the notes of the first conversion."""
    manifest = convert(source, scratch / "flax", to="flax")
    assert verify(scratch / "flax", source=source).findings == ()
    convert(scratch / "flax", scratch / "back", to="pytorch")
    found = load_file(scratch / "back" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    return list(manifest.values["notes"])


@pytest.mark.parametrize(
    ("config", "name", "note"),
    [
        ({}, "config.json", "no model type; 'bert', from the names and shapes of the tensors"),
        ({}, "bert_config.json", "bert_config.json is the only config"),
        ({"architectures": [MASKED_LM]}, "config.json", "'bert', from the class BertForMaskedLM"),
        (
            {"model_type": "my-bert", "architectures": [MASKED_LM]},
            "config.json",
            "the model type 'my-bert'; 'bert', from the class BertForMaskedLM",
        ),
    ],
)
def test_the_model_type_is_found_and_written(
    config: dict[str, object], name: str, note: str, tmp_path: Path
) -> None:
    tensors = tensors_of(MASKED_LM)
    source = stored(tmp_path / "source", tensors, config, name)
    notes = assert_round_trip(source, tmp_path, tensors)
    assert any(note in one for one in notes), notes
    assert config_of(tmp_path / "flax")["model_type"] == "bert"
    convert(source, tmp_path / "bin", to="pytorch-bin")
    assert config_of(tmp_path / "bin")["model_type"] == "bert"


def test_an_architecture_of_the_user_is_written(tmp_path: Path) -> None:
    config = {"model_type": "my-bert"}
    source = stored(tmp_path / "source", tensors_of(MASKED_LM), config)
    with pytest.raises(
        ArchitectureError, match=r"'my-bert'[^$]*--architecture bert: the tensors fit bert"
    ):
        convert(source, tmp_path / "out", to="flax")
    convert(source, tmp_path / "out", to="flax", architecture="bert")
    assert config_of(tmp_path / "out")["model_type"] == "bert"


def test_names_that_fit_several_model_types_are_not_guessed(tmp_path: Path) -> None:
    tensors = tensors_of("BertModel")
    source = stored(tmp_path / "source", tensors, {})
    with pytest.raises(ArchitectureError, match=r"the tensors fit bert, .*roberta"):
        convert(source, tmp_path / "out", to="flax")


LABELS = {str(index): f"kind {index}" for index in range(5)}


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ({}, {"id2label": {str(index): f"LABEL_{index}" for index in range(5)}}),
        ({"id2label": {"0": "no", "1": "yes"}}, {"label2id": {f"LABEL_{i}": i for i in range(5)}}),
        ({"num_labels": 5, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, {"num_labels": 5}),
        ({"num_labels": 2, "id2label": LABELS}, {"num_labels": 5, "id2label": LABELS}),
    ],
    ids=["neither", "too few names", "default names", "wrong number"],
)
def test_the_rows_of_the_classifier_decide(
    config: dict[str, object], written: dict[str, object], tmp_path: Path
) -> None:
    tensors = tensors_of(CLASSIFIER, num_labels=5)
    values = {"model_type": "bert", "architectures": [CLASSIFIER], **config}
    source = stored(tmp_path / "source", tensors, values)
    notes = assert_round_trip(source, tmp_path, tensors)
    assert any("the classifier has 5 rows" in note for note in notes), notes
    for folder in ("flax", "back"):
        found = config_of(tmp_path / folder)
        assert {key: found[key] for key in written} == written
        assert len(found["id2label"]) == 5


def test_names_for_a_billion_labels_are_not_made(tmp_path: Path) -> None:
    """A tensor of no bytes may have any number of rows."""
    tensors = {**tensors_of(CLASSIFIER), "classifier.weight": np.zeros((1 << 40, 0), np.float32)}
    source = stored(tmp_path / "source", tensors, {"model_type": "bert", "hidden_size": 12})
    with pytest.raises(CoverageError):
        convert(source, tmp_path / "out", to="flax")


def test_a_changed_vocabulary(tmp_path: Path) -> None:
    tensors = tensors_of(MASKED_LM, vocab_size=23)
    source = stored(tmp_path / "source", tensors, {"model_type": "bert"})
    notes = assert_round_trip(source, tmp_path, tensors)
    assert notes == [
        "the embeddings have 23 rows and config.json says vocab_size 37: 23 is written"
    ]
    assert config_of(tmp_path / "flax")["vocab_size"] == 23


def test_more_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    tensors = tensors_of(MASKED_LM, vocab_size=23, intermediate_size=13)
    source = stored(tmp_path / "source", tensors, {"model_type": "bert"})
    with pytest.raises(CoverageError, match="tensors have another shape than the config says"):
        convert(source, tmp_path / "out", to="flax")


@pytest.mark.parametrize("to", ["flax", "tensorflow"])
def test_a_head_that_transformers_ignores(to: str, tmp_path: Path) -> None:
    pooler = {"albert.pooler.weight": np.ones((12, 12), np.float32), "albert.pooler.bias": np.ones(12, np.float32)}  # fmt: skip
    tensors = tensors_of("AlbertForMaskedLM", "albert", embedding_size=6)
    config = {"model_type": "albert", "architectures": ["AlbertForMaskedLM"], "embedding_size": 6}
    source = stored(tmp_path / "source", {**tensors, **pooler}, config)
    manifest = convert(source, tmp_path / "out", to=to)
    assert manifest.values["left_out"].keys() == pooler.keys()
    assert "transformers ignores it on loading: albert.pooler" in manifest.values["notes"][0]
    other = stored(tmp_path / "other", {**tensors, "albert.extra.weight": np.ones(3)}, config)
    with pytest.raises(CoverageError, match=r"albert\.extra\.weight' is unknown"):
        convert(other, tmp_path / "out2", to=to)


@pytest.mark.parametrize("to", ["flax", "tensorflow"])
def test_a_tie_under_its_other_name(to: str, tmp_path: Path) -> None:
    """Only the output layer is stored; the embedding has its tensor."""
    tensors = tensors_of(MASKED_LM)
    moved = {**tensors, DECODER: tensors[EMBEDDING]}
    del moved[EMBEDDING]
    config = {"model_type": "bert", "architectures": [MASKED_LM]}
    manifest = convert(stored(tmp_path / "source", moved, config), tmp_path / "made", to=to)
    assert f"{EMBEDDING!r} is stored under the name of {DECODER!r}" in manifest.values["notes"][0]
    convert(tmp_path / "made", tmp_path / "back", to="pytorch")
    found = load_file(tmp_path / "back" / "model.safetensors")
    np.testing.assert_array_equal(found[EMBEDDING], tensors[EMBEDDING])
    untied = {**config, "tie_word_embeddings": False}
    with pytest.raises(CoverageError, match="is missing"):
        convert(stored(tmp_path / "untied", moved, untied), tmp_path / "none", to=to)


def shape_zero(tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.zeros(0, np.float32) for name in tensors}


def pruned(tensors: Mapping[str, Array]) -> dict[str, Array]:
    found = dict(tensors)
    for part in ("query", "key", "value"):
        name = f"bert.encoder.layer.0.attention.self.{part}"
        found[f"{name}.weight"] = tensors[f"{name}.weight"][:4]
        found[f"{name}.bias"] = tensors[f"{name}.bias"][:4]
    name = "bert.encoder.layer.0.attention.output.dense.weight"
    found[name] = tensors[name][:, :4].copy()
    return found


def quantized(tensors: Mapping[str, Array]) -> dict[str, Array]:
    name = "bert.encoder.layer.0.attention.self.query"
    return {
        **tensors,
        f"{name}.weight": tensors[f"{name}.weight"].astype(np.int8),
        f"{name}.SCB": np.ones(8, np.float32),
    }


CAUSES: dict[str, tuple[Callable[[Any], Any], dict[str, object], str]] = {
    "zero3": (shape_zero, {}, r"41 tensors are empty, .* \[0\]: saved by DeepSpeed ZeRO-3"),
    "pruned": (pruned, {"pruned_heads": {"0": [1]}}, r"attention heads are pruned \(config: pruned_heads of 1"),
    "int8": (quantized, {}, "quantized with LLM.int8 of bitsandbytes: add --dequantize"),
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("to", ["flax", "tensorflow"])
def test_one_cause_in_place_of_many_misfits(cause: str, to: str, tmp_path: Path) -> None:
    change, config, text = CAUSES[cause]
    values = {"model_type": "bert", "architectures": [CLASSIFIER], **config}
    source = stored(tmp_path / "source", change(tensors_of(CLASSIFIER)), values)
    with pytest.raises(CoverageError, match=text) as refused:
        convert(source, tmp_path / "out", to=to)
    assert len(refused.value.problems) == 1
    assert "--allow" not in str(refused.value)


def test_empty_tensors_are_not_copied_either(tmp_path: Path) -> None:
    values = {"model_type": "bert", "architectures": [CLASSIFIER]}
    source = stored(tmp_path / "source", shape_zero(tensors_of(CLASSIFIER)), values)
    with pytest.raises(CheckpointError, match="41 tensors are empty"):
        convert(source, tmp_path / "out", to="pytorch-bin")


def test_replicated_parameters_of_flax(tmp_path: Path) -> None:
    import flax.serialization

    values = {"model_type": "bert", "architectures": [CLASSIFIER]}
    source = stored(tmp_path / "source", tensors_of(CLASSIFIER), values)
    convert(source, tmp_path / "flax", to="flax")
    path = tmp_path / "flax" / "flax_model.msgpack"
    tree = flax.serialization.msgpack_restore(path.read_bytes())
    path.write_bytes(flax.serialization.msgpack_serialize(stack(tree)))
    with pytest.raises(
        CoverageError, match="leading axis of 8: the parameters are replicated"
    ) as refused:
        convert(tmp_path / "flax", tmp_path / "out", to="pytorch")
    assert len(refused.value.problems) == 1
    same_layout = convert(tmp_path / "flax", tmp_path / "again", to="flax-safetensors")
    (note,) = [one for one in same_layout.values["notes"] if "replicated" in one]
    assert note.startswith("every tensor has a leading axis of 8: the parameters are replicated")


def stack(tree: Any) -> Any:
    return (
        {k: stack(v) for k, v in tree.items()} if isinstance(tree, dict) else np.stack([tree] * 8)
    )


def test_a_sentence_of_many_tensors_is_said_once(tmp_path: Path, cli: Callable[..., Any]) -> None:
    values = {"model_type": "bert", "architectures": [CLASSIFIER], "intermediate_size": 13}
    source = stored(tmp_path / "source", tensors_of(CLASSIFIER), values)
    refused = cli("convert", source, tmp_path / "out", "--to", "flax")
    assert refused.err.count("another model's") == 1
    assert "6 tensors have another shape than the config says" in refused.err
    problems = cli("convert", source, tmp_path / "out", "--to", "flax", "--json").data["problems"]
    assert len(problems) == 6
    assert "has shape [20, 12], the config says [13, 12]" in problems[0]


def test_hints_install_what_the_extra_declares() -> None:
    assert "'torch>=" in install_hint("torch")
    assert "pip install -e '.[torch]'" in install_hint("torch")
    for name in target_names():
        target = find_target(name)
        hint = install_hint("torch", *target.extra.split(","))
        assert [one for one in target.needs if f"'{one}>=" not in hint] == []


def test_errors_name_the_output_and_no_temporary_folder(tmp_path: Path) -> None:
    import torch

    (tmp_path / "source").mkdir()
    torch.save({"a": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "source" / "model.pt")
    with pytest.raises(Exception, match=f"{tmp_path}/out/model.safetensors") as refused:
        convert(tmp_path / "source", tmp_path / "out", to="pytorch")
    assert ".partial" not in str(refused.value)
