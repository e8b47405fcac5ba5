"""Presets that contradict themselves, or what KerasHub cannot hold, are refused with the file and the field."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert import convert
from equipoise.convert.core.errors import ArchitectureError
from equipoise.fixtures.synthetic import write_checkpoint

GOLDEN = Path(__file__).parent / "golden" / "keras_hub"
SIZES = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 18,
}
HUGE = 10**30
MISSING = "missing"


def change_preset(name: str, folder: Path, file: str, path: str, value: object) -> Path:
    """Returns a copy of a preset with another value in one of its files, at a dotted path."""
    preset = Path(shutil.copytree(GOLDEN / name, folder / "preset"))
    content = json.loads((preset / file).read_text())
    *parents, last = path.split(".")
    table = content
    for parent in parents:
        table = table[parent]
    table[last] = value
    if value == MISSING:
        del table[last]
    (preset / file).write_text(json.dumps(content))
    return preset


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.backbone.config.num_heads", 4),
        ("config.backbone.config.num_layers", 1),
        ("config.backbone.class_name", "RobertaBackbone"),
    ],
)
def test_a_task_of_another_backbone(path: str, value: object, tmp_path: Path) -> None:
    preset = change_preset("bert+classifier", tmp_path, "task.json", path, value)
    with pytest.raises(ArchitectureError, match="contradict each other") as refused:
        convert(preset, tmp_path / "out", to="pytorch")
    said = str(refused.value)
    assert all(
        one in said for one in (f"{preset / 'task.json'}: ", str(preset / "config.json"), path)
    )
    assert repr(value) in said


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("bert+classifier", "activation", "softmax"),
        ("roberta+classifier", "hidden_dim", 5),
        ("vit+classifier", "pooling", "gap"),
        ("bert+classifier", "num_classes", "x"),
        ("bert+classifier", "num_classes", -1),
        ("bert+classifier", "num_classes", MISSING),
    ],
)
def test_the_task_is_blamed_for_its_fields(
    name: str, field: str, value: object, tmp_path: Path
) -> None:
    preset = change_preset(name, tmp_path, "task.json", f"config.{field}", value)
    with pytest.raises(ArchitectureError, match=field) as refused:
        convert(preset, tmp_path / "out", to="pytorch")
    assert str(refused.value).startswith(f"{preset / 'task.json'}: ")


def test_the_task_says_how_many_classes(tmp_path: Path, cli: Callable[..., Any]) -> None:
    preset = change_preset("bert+classifier", tmp_path, "task.json", "config.num_classes", 7)
    outcome = cli("convert", preset, tmp_path / "out", "--to", "pytorch")
    assert outcome.code == 0
    assert "the classifier has 5 rows and task.json says 7" in outcome.out + outcome.err
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert len(made["id2label"]) == 5


@pytest.mark.parametrize(
    ("model_type", "class_name", "options"),
    [
        ("roberta", "RobertaForSequenceClassification", []),
        ("roberta", "RobertaForMaskedLM", []),
        ("xlm-roberta", "XLMRobertaForMaskedLM", []),
        ("roberta", "RobertaModel", ["--allow-lossy"]),
        ("roberta", "RobertaModel", []),
    ],
)
def test_two_rows_of_token_types(
    model_type: str, class_name: str, options: list[str], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    config = {**SIZES, "type_vocab_size": 2}
    source = write_checkpoint(tmp_path / "source", model_type, class_name, config)
    outcome = cli("convert", source, tmp_path / "out", "--to", "keras-hub", *options)
    assert outcome.code == 2
    assert "type_vocab_size: 1" in outcome.err
    assert str(source / "config.json") in outcome.err
    assert not os.path.lexists(tmp_path / "out")


@pytest.mark.parametrize("name", ["bert", "vit", "albert"])
@pytest.mark.parametrize("value", [5, None, HUGE, 0, "x", MISSING])
def test_heads_that_do_not_divide_the_width(name: str, value: object, tmp_path: Path) -> None:
    preset = change_preset(name, tmp_path, "config.json", "config.num_heads", value)
    with pytest.raises(ArchitectureError, match="num_heads") as refused:
        convert(preset, tmp_path / "out", to="pytorch")
    assert str(refused.value).startswith(str(preset / "config.json"))


def test_heads_of_a_config_of_transformers(tmp_path: Path) -> None:
    """Where no axis is split by the heads, they are not asked."""
    config = {**SIZES, "num_attention_heads": 3}
    source = write_checkpoint(tmp_path / "source", "bert", "BertForSequenceClassification", config)
    with pytest.raises(ArchitectureError, match="does not fit the layout keras-hub") as refused:
        convert(source, tmp_path / "out", to="keras-hub")
    said = str(refused.value)
    assert "num_attention_heads 3 (num_heads in KerasHub), hidden_size 16" in said
    assert str(source / "config.json") in said
    for layout in ("flax", "google", "tensorflow"):
        convert(source, tmp_path / layout, to=layout)


BAD_VALUES: Mapping[str, tuple[object, ...]] = {
    "dropout": (-1, {}, 1e308, 1, True, "x"),
    "layer_norm_epsilon": (0, -1, 1e308, "x"),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD_VALUES.items() for value in values]
)
def test_a_range_is_checked(field: str, value: object, tmp_path: Path) -> None:
    name = "bert" if field == "dropout" else "gemma"
    preset = change_preset(name, tmp_path, "config.json", f"config.{field}", value)
    with pytest.raises(ArchitectureError, match=f"expected: {field}: a number") as refused:
        convert(preset, tmp_path / "out", to="pytorch")
    assert str(refused.value).startswith(f"{preset / 'config.json'}: ")
    assert repr(value) in str(refused.value)
