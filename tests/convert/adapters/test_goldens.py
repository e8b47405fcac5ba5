"""A LoRA adapter merged without PEFT is what PEFT's own ``merge_and_unload()`` gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.adapters.settings import read_settings
from equipoise.convert.core.errors import CheckpointError, InputError
from equipoise.convert.core.tensor import DTYPES
from equipoise.convert.verify import verify
from equipoise.fixtures.synthetic import write_tensors

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/merged.safetensors"))


def base_of(name: str) -> Path:
    return GOLDEN / "bases" / read_settings(GOLDEN / name).base


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_peft(name: str) -> None:
    base = open_checkpoint(base_of(name))
    merged = open_checkpoint(base_of(name), merge_adapter=GOLDEN / name)
    expected = load_file(GOLDEN / name / "merged.safetensors")
    changed = {key for key, ref in merged.items() if ref != base[key]}
    tied = {key for key in expected if key not in merged}
    assert changed == expected.keys() - tied
    assert tied <= {"lm_head.weight"}
    for key in changed:
        assert merged[key].dtype == base[key].dtype
        np.testing.assert_allclose(merged[key].read(), expected[key], rtol=2e-6, atol=2e-7)
        assert np.abs(merged[key].read() - base[key].read()).max() > 1e-3
        assert b"".join(merged[key].blocks()) == merged[key].read().tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_computed_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_checkpoint(base_of(name), merge_adapter=GOLDEN / name)
    values = {key: ref.read() for key, ref in whole.items()}
    monkeypatch.setattr("equipoise.convert.core.rounding.BLOCK_ELEMENTS", 100)
    monkeypatch.setattr("equipoise.convert.adapters.lora.BLOCK_ELEMENTS", 100)
    for key, ref in whole.items():
        np.testing.assert_allclose(ref.read(), values[key], rtol=1e-6, atol=1e-9)


def test_the_sum_is_rounded_once(tmp_path: Path) -> None:
    """In bfloat16 the update alone, or its sum in bfloat16, would be rounded too."""
    base = tmp_path / "base"
    shutil.copytree(base_of("lora"), base)
    tensors = load_file(base / "model.safetensors")
    narrow = {key: value.astype(DTYPES["bfloat16"]) for key, value in tensors.items()}
    write_tensors(base / "model.safetensors", narrow)
    merged = open_checkpoint(base, merge_adapter=GOLDEN / "lora")
    adapter = load_file(GOLDEN / "lora" / "adapter_model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    down, up = (
        adapter[f"base_model.model.{name}.lora_{part}.weight"].astype(np.float64) for part in "AB"
    )
    exact = narrow[f"{name}.weight"].astype(np.float64) + 5 / 3 * (up @ down)
    found = merged[f"{name}.weight"].read()
    assert found.dtype == DTYPES["bfloat16"]
    spacing = np.abs(np.spacing(found)).astype(np.float64)
    assert np.all(np.abs(found.astype(np.float64) - exact) <= 0.5 * spacing)


def test_a_base_saved_without_its_head(tmp_path: Path) -> None:
    """The adapter of a classifier fits its body, whose names lack the prefix of the class."""
    base = tmp_path / "base"
    shutil.copytree(base_of("lora-bias"), base)
    tensors = load_file(base / "model.safetensors")
    body = {key.removeprefix("bert."): one for key, one in tensors.items() if key[:5] == "bert."}
    save_file(body, base / "model.safetensors", {"format": "pt"})
    expected = load_file(GOLDEN / "lora-bias" / "merged.safetensors")
    merged = open_checkpoint(base, merge_adapter=GOLDEN / "lora-bias")
    for key, value in expected.items():
        found = merged[key.removeprefix("bert.")].read()
        np.testing.assert_allclose(found, value, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("to", ["pytorch", "flax", "tensorflow"])
def test_the_conversion_is_recorded_and_verified(to: str, tmp_path: Path) -> None:
    base, adapter, out = base_of("modules-to-save"), GOLDEN / "modules-to-save", tmp_path / "out"
    convert(base, out, to=to, merge_adapter=adapter)
    manifest = json.loads((out / "equipoise.json").read_text())
    assert manifest["options"]["merge_adapter"] == str(adapter)
    assert {"adapter_model.safetensors", "adapter_config.json"} <= manifest["source"][
        "files"
    ].keys()
    assert any(note.startswith("LoRA adapter modules-to-save merged") for note in manifest["notes"])
    assert not (out / "adapter_config.json").exists()
    found = verify(out, source=base, merge_adapter=adapter)
    assert found.findings == ()
    assert found.options == (f"merge_adapter={adapter}",)


def test_an_adapter_in_the_manifest_alone_is_not_applied(tmp_path: Path) -> None:
    """Who edits a manifest must not choose the weights that it is compared with."""
    base, adapter = base_of("modules-to-save"), GOLDEN / "modules-to-save"
    convert(base, tmp_path / "good", to="flax")
    convert(base, tmp_path / "evil", to="flax", merge_adapter=adapter)
    shutil.copy(tmp_path / "evil" / "flax_model.msgpack", tmp_path / "good")
    good, evil = (
        json.loads((tmp_path / name / "equipoise.json").read_text()) for name in ("good", "evil")
    )
    for name in ("target", "tensors", "sources", "source", "options"):
        good[name] = evil[name]
    (tmp_path / "good" / "equipoise.json").write_text(json.dumps(good))
    with pytest.raises(InputError, match="the conversion merged the adapter"):
        verify(tmp_path / "good", source=base)
    del good["options"]["merge_adapter"]
    (tmp_path / "good" / "equipoise.json").write_text(json.dumps(good))
    assert verify(tmp_path / "good", source=base).findings
    with pytest.raises(InputError, match="the conversion merged no adapter"):
        verify(tmp_path / "good", source=base, merge_adapter=adapter)


def test_a_part_of_an_adapter_that_is_there_twice(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(GOLDEN / "lora", adapter)
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(one for one in tensors if one.endswith("lora_A.weight"))
    tensors[name.replace("lora_A.weight", "lora_A.default.weight")] = tensors[name] * 100
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="has this part twice"):
        open_checkpoint(base_of("lora"), merge_adapter=adapter)


def test_an_adapter_beside_its_base(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(base_of("lora"), folder)
    for path in (GOLDEN / "lora").glob("adapter_*"):
        shutil.copy(path, folder)
    with pytest.raises(CheckpointError, match="adapter"):
        convert(folder, tmp_path / "out", to="flax")
    convert(folder, tmp_path / "out", to="flax", merge_adapter=folder)
    assert not list((tmp_path / "out").glob("adapter*"))
    expected = load_file(GOLDEN / "lora" / "merged.safetensors")
    key = "model.layers.0.self_attn.q_proj.weight"
    found = open_checkpoint(tmp_path / "out")["model/layers/0/self_attn/q_proj/kernel"].read()
    np.testing.assert_allclose(found.T, expected[key], rtol=2e-6, atol=2e-7)


def edited(tmp_path: Path, **fields: Any) -> Path:
    """Returns a copy of the adapter `lora` with other settings."""
    folder = tmp_path / "adapter"
    shutil.copytree(GOLDEN / "lora", folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"peft_type": "IA3"}, "a kind that is not merged here: IA3"),
        ({"layer_replication": [[0, 2]]}, "not merged here: layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changes the base weights"),
        ({"r": "3"}, "r: '3' is not an integer"),
        ({"r": 0}, "the rank is not positive"),
        ({"fan_in_fan_out": True}, "the adapter does not fit the weight"),
    ],
)
def test_other_adapters_are_refused(fields: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        open_checkpoint(base_of("lora"), merge_adapter=edited(tmp_path, **fields))


def test_another_base_is_refused() -> None:
    with pytest.raises(CheckpointError, match="a weight that the base model does not hold"):
        open_checkpoint(base_of("lora"), merge_adapter=GOLDEN / "modules-to-save")


def test_half_an_adapter_is_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight")
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="one of the two factors"):
        open_checkpoint(base_of("lora"), merge_adapter=folder)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this is no PEFT adapter"):
        open_checkpoint(base_of("lora"), merge_adapter=tmp_path)
