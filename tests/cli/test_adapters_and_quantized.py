"""Adapters and quantized weights on the command line: refused with what to do, and converted when that is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import open_checkpoint
from equipoise.convert.core.tensor import DTYPES
from equipoise.fixtures.synthetic import write_small_bert, write_tensors

SCALES = {"fp8": "*_scale_inv", "int8": "*.SCB"}
ADAPTERS = Path(__file__).parents[1] / "convert" / "adapters" / "golden"


def quantize(folder: Path, method: str) -> dict[str, np.ndarray[Any, Any]]:
    """Replaces the matrices of the encoder by fp8 or int8 with scales; returns what they mean, in float64."""
    path = folder / "model.safetensors"
    tensors = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    meant = {}
    for name in [name for name in tensors if "encoder" in name and name.endswith("weight")]:
        value = tensors[name].astype(np.float64)
        if value.ndim != 2:
            continue
        rows = np.abs(value).max(1, keepdims=True)
        if method == "fp8":
            scale = np.float32(rows.max() / 448).reshape(1, 1)
            coded = (value / scale).astype(DTYPES["float8_e4m3fn"])
            tensors |= {name: coded, f"{name}_scale_inv": scale}
            meant[name] = coded.astype(np.float64) * scale
        else:
            coded = np.round(value / rows * 127).astype(np.int8)
            scale = rows[:, 0].astype(np.float32)
            tensors |= {name: coded, name.removesuffix("weight") + "SCB": scale}
            meant[name] = coded * scale[:, None].astype(np.float64) / 127
    write_tensors(path, tensors)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": {"fp8": "fp8"}.get(method, "bitsandbytes")}
    (folder / "config.json").write_text(json.dumps(config))
    return meant


@pytest.mark.parametrize("method", ["fp8", "int8"])
def test_quantized_weights(method: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    source, out = write_small_bert(tmp_path / "bert"), tmp_path / "out"
    meant = quantize(source, method)
    for options in ([], ["--allow", SCALES[method] + "=x"]):
        refused = cli("convert", source, out, "--to", "flax", *options)
        assert refused.code == 2
        assert "add --dequantize" in refused.err
        assert refused.err.count("  - ") == 1
    done = cli("convert", source, out, "--to", "flax", "--dequantize", "--json")
    assert done.code == 0, done.err
    assert len(meant) == 12
    found = open_checkpoint(out).in_layout("flax")
    for name, value in meant.items():
        kernel = found[name.replace(".", "/").replace("weight", "kernel")].read()
        np.testing.assert_array_equal(kernel.T, value.astype(np.float32))
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    assert cli("verify", out, "--source", source).code == 0
    plain = cli("convert", out, tmp_path / "again", "--to", "pytorch", "--dequantize")
    assert (plain.code, "leave out --dequantize" in plain.err) == (2, True)


def test_adapters(cli: Callable[..., Any], tmp_path: Path) -> None:
    base, adapter = ADAPTERS / "bases" / "llama", ADAPTERS / "lora"
    alone = cli("convert", adapter, tmp_path / "out", "--to", "flax")
    assert (alone.code, f"--merge-adapter {adapter}" in alone.err) == (2, True)
    file = adapter / "adapter_model.safetensors"
    options = ["--config", base / "config.json"]
    weights = cli("convert", file, tmp_path / "out", "--to", "flax", *options)
    assert (weights.code, "a PEFT adapter" in weights.err) == (2, True)
    assert "another model" not in weights.err
    done = cli("convert", base, tmp_path / "out", "--to", "flax", "--merge-adapter", adapter)
    assert done.code == 0, done.err
    assert "LoRA adapter lora merged into 4 weights" in done.out


def test_a_model_with_an_adapter_in_it(cli: Callable[..., Any], tmp_path: Path) -> None:
    """``torch.save(peft_model.state_dict())``."""
    base = ADAPTERS / "bases" / "llama"
    name = "model.layers.0.self_attn.q_proj"
    tensors = {f"base_model.model.{key}": ref.read() for key, ref in open_checkpoint(base).items()}
    whole = tensors.pop(f"base_model.model.{name}.weight")
    tensors[f"base_model.model.{name}.base_layer.weight"] = whole
    for part, value in (("A", whole[:3]), ("B", whole[:, :3])):
        tensors[f"base_model.model.{name}.lora_{part}.default.weight"] = value
    write_tensors(tmp_path / "whole.safetensors", tensors)
    options = ["--to", "flax", "--config", base / "config.json"]
    refused = cli("convert", tmp_path / "whole.safetensors", tmp_path / "out", *options)
    assert refused.code == 2
    assert "2 tensors are those of a PEFT adapter" in refused.err
    assert "merge_and_unload()" in refused.err
