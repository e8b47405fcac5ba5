"""Files of training loops: the weights one level down, beside optimizer, scheduler and callbacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, InputError
from equipoise.convert.verify import verify
from equipoise.fixtures.synthetic import BERT_CONFIG, expand_class, make_tensors

CLASS = "BertForSequenceClassification"
TENSORS = make_tensors(expand_class("bert", CLASS, BERT_CONFIG))
Tensors = dict[str, Any]
State = dict[str, Any]


def pytorch() -> Any:
    """Returns PyTorch, imported when a test runs."""
    import torch

    return torch


def as_torch(tensors: Mapping[str, Array], prefix: str = "") -> Tensors:
    return {
        f"{prefix}{name}": pytorch().from_numpy(value.copy()) for name, value in tensors.items()
    }


def optimizer() -> State:
    parameter = pytorch().nn.Parameter(pytorch().ones(3))
    adam = pytorch().optim.Adam([parameter])
    parameter.sum().backward()
    adam.step()
    return adam.state_dict()


def lightning(weights: Tensors) -> State:
    return {
        "epoch": 2,
        "global_step": 10,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {
            "EarlyStopping{}": {"wait_count": 0, "best_score": pytorch().tensor([0.5, 0.25])}
        },
        "optimizer_states": [optimizer()],
        "lr_schedulers": [{"base_lrs": [0.1]}],
        "hyper_parameters": {"lr": 1e-4},
    }


def deepspeed(weights: Tensors) -> State:
    return {
        "module": weights,
        "optimizer": {"fp32_groups": [pytorch().zeros(9)]},
        "lr_scheduler": {"last": 3},
        "param_shapes": [{name: value.shape for name, value in weights.items()}],
        "ds_version": "0.9.5",
    }


LOOPS: dict[str, tuple[Callable[[Tensors], State], str]] = {
    "lightning": (lightning, "state_dict"),
    "loop": (
        lambda weights: {
            "epoch": 3,
            "model_state_dict": weights,
            "optimizer_state_dict": optimizer(),
            "loss": pytorch().tensor(0.3),
        },
        "model_state_dict",
    ),
    "compiled": (
        lambda weights: {"model": {f"_orig_mod.{k}": v for k, v in weights.items()}, "config": {}},
        "model",
    ),
    "fsdp": (
        lambda weights: {
            "model": weights,
            "optim": {
                "state": {name: {"exp_avg": value} for name, value in weights.items()},
                "param_groups": [],
            },
        },
        "model",
    ),
    "deepspeed": (deepspeed, "module"),
    "twice": (lambda weights: {"checkpoint": {"model": weights, "step": 3}}, "checkpoint.model"),
}


def stored(folder: Path, state: State, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    values = {"model_type": "bert", "architectures": [CLASS], **BERT_CONFIG, **config}
    (folder / "config.json").write_text(json.dumps(values))
    pytorch().save(state, folder / "last.ckpt")
    return folder / "last.ckpt"


def assert_same(folder: Path, expected: Mapping[str, Array]) -> None:
    found = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("to", ["tensorflow", "pytorch"])
def test_the_weights_are_found_and_noted(kind: str, to: str, tmp_path: Path) -> None:
    make, path = LOOPS[kind]
    source = stored(tmp_path / "source", make(as_torch(TENSORS)))
    manifest = convert(source, tmp_path / "made", to=to)
    assert any(f"the weights lie under {path!r}" in note for note in manifest.values["notes"])
    assert verify(tmp_path / "made", source=source).findings == ()
    if to == "tensorflow":
        convert(tmp_path / "made", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / ("back" if to == "tensorflow" else "made"), TENSORS)


def test_every_prefix_is_noted(tmp_path: Path) -> None:
    weights = as_torch(TENSORS, "model.module.")
    manifest = convert(
        stored(tmp_path / "source", {"state_dict": weights, "epoch": 1}),
        tmp_path / "made",
        to="flax",
    )
    notes = "\n".join(manifest.values["notes"])
    assert "the weights lie under 'state_dict'" in notes
    assert "named with 'model.module.' before them" in notes


@pytest.mark.parametrize("to", ["pytorch", "flax"])
def test_a_wrapper_is_noted_whatever_the_target(to: str, tmp_path: Path) -> None:
    source = stored(tmp_path / "source", as_torch(TENSORS, "module."))
    manifest = convert(source, tmp_path / "made", to=to)
    (note,) = manifest.values["notes"]
    assert "the prefix of a wrapper is removed from 41 names: 'module.bert" in note


def test_what_is_left_out_is_recorded(tmp_path: Path) -> None:
    manifest = convert(
        stored(tmp_path / "source", lightning(as_torch(TENSORS))), tmp_path / "made", to="flax"
    )
    left_out = {name: entry["reason"] for name, entry in manifest.values["left_out"].items()}
    assert left_out["callbacks.EarlyStopping{}.best_score"] == "state of the training loop"
    assert left_out["optimizer_states.0"] == "state of an optimizer"


def test_two_maps_of_weights_are_refused_and_listed(tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in TENSORS.items()}
    state = {"model": as_torch(TENSORS), "ema": as_torch(other), "optimizer": optimizer()}
    source = stored(tmp_path / "source", state)
    with pytest.raises(
        CheckpointError, match=r"model \(41 tensors\), ema \(41 tensors\)[^$]*--subtree"
    ):
        open_checkpoint(source)
    convert(source, tmp_path / "made", to="pytorch", subtree="ema")
    assert_same(tmp_path / "made", torch_arrays(source, "ema"))
    assert verify(tmp_path / "made", source=source).findings == ()
    with pytest.raises(InputError, match="no tensor lies under 'mean'"):
        open_checkpoint(source, subtree="mean")


def torch_arrays(path: Path, key: str) -> dict[str, Array]:
    """Returns the tensors below a key as PyTorch itself loads them."""
    state: Any = pytorch().load(path, weights_only=True)
    return {name: value.numpy() for name, value in state[key].items()}


def test_two_models_under_prefixes_are_refused_and_listed(tmp_path: Path) -> None:
    source = stored(
        tmp_path / "source", {**as_torch(TENSORS, "student."), **as_torch(TENSORS, "teacher.")}
    )
    with pytest.raises(ArchitectureError, match=r"under 'student\.', 'teacher\.'"):
        convert(source, tmp_path / "made", to="flax")
    convert(source, tmp_path / "made", to="pytorch", subtree="teacher")
    assert_same(tmp_path / "made", TENSORS)


def test_weights_beside_the_model_are_not_lost(tmp_path: Path) -> None:
    state = {**as_torch(TENSORS, "net."), "head.weight": pytorch().ones(3, 8)}
    source = stored(tmp_path / "source", {"state_dict": state})
    with pytest.raises(InputError, match=r"head\.weight' is unknown .* --subtree state_dict\.net"):
        convert(source, tmp_path / "made", to="flax")
    manifest = convert(source, tmp_path / "made", to="flax", subtree="state_dict.net")
    assert "outside" in manifest.values["left_out"]["state_dict.head.weight"]["reason"]


def test_maps_that_are_the_model_are_left_alone(tmp_path: Path) -> None:
    """A state dict kept as maps within maps: no key of it is that of a training loop."""
    source = stored(
        tmp_path / "source",
        {"encoder": {"weight": pytorch().ones(2)}, "decoder": {"weight": pytorch().ones(3)}},
    )
    assert list(open_checkpoint(source)) == ["encoder.weight", "decoder.weight"]
    assert open_checkpoint(source).prefix == ""


FLAX_TREES: dict[str, Callable[[Any], Any]] = {
    "train state": lambda params: {"step": np.int32(4), "params": params, "opt_state": {"0": {"mu": params}}},
    "params twice": lambda params: {"step": np.int32(4), "params": {"params": params}, "opt_state": {"0": {"mu": params}}},
    "params once": lambda params: {"params": params},
    "optimizer": lambda params: {"target": params, "state": {"step": np.int32(4), "param_states": params}},
}  # fmt: skip


@pytest.mark.parametrize("kind", FLAX_TREES)
def test_train_states_of_flax(kind: str, tmp_path: Path) -> None:
    import flax.serialization

    convert(stored(tmp_path / "source", as_torch(TENSORS)), tmp_path / "flax", to="flax")
    path = tmp_path / "flax" / "flax_model.msgpack"
    params = flax.serialization.msgpack_restore(path.read_bytes())
    path.write_bytes(flax.serialization.msgpack_serialize(FLAX_TREES[kind](params)))
    manifest = convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    assert_same(tmp_path / "back", TENSORS)
    reasons = {entry["reason"] for entry in manifest.values["left_out"].values()}
    assert ("state of the optimizer" in reasons) == (kind != "params once")
