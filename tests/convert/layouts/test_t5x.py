"""T5X's trees: by the rules that were published for them (equipoise.fixtures.t5x_trees), as Flax, Orbax and T5X's own checkpoints hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
serialization = pytest.importorskip("flax.serialization")
flatten_dict = pytest.importorskip("flax.traverse_util").flatten_dict

from safetensors.numpy import load_file

from equipoise.convert import open_checkpoint
from equipoise.convert.api import convert
from equipoise.convert.conversion import stacks
from equipoise.convert.core.errors import ArchitectureError, CoverageError
from equipoise.convert.from_pretrained import state_dict
from equipoise.convert.research.marks import known_specs
from equipoise.convert.verify import verify
from equipoise.exporters.weight_layout import nest_paths
from equipoise.fixtures.t5x_checkpoints import write_t5x
from equipoise.fixtures.t5x_trees import CASES, Tree, settings_of, tree_of

pytestmark = pytest.mark.transformers

EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""What PyTorch's class shares with its embedding."""


def model_of(name: str, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Writes a model's config and PyTorch weights, all of them random; returns its tensors."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**settings)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    generator = torch.Generator().manual_seed(3)
    state = {
        key: torch.randn(value.shape, generator=generator)
        for key, value in model.state_dict().items()
    }
    if settings["tie_word_embeddings"]:
        state["lm_head.weight"] = state["shared.weight"]
    for key in [one for one in state if one in EMBEDDINGS and "shared.weight" in state]:
        state[key] = state["shared.weight"]
    folder.mkdir()
    content = {**config.to_dict(), **settings, "architectures": [type(model).__name__]}
    (folder / "config.json").write_text(json.dumps(content))
    return {key: value.numpy() for key, value in state.items()}


def nested(flat: Tree) -> Tree:
    """Returns a flat tree as nested dictionaries of contiguous arrays."""
    return nest_paths({name: np.ascontiguousarray(value) for name, value in flat.items()})


def make(case: str, folder: Path) -> tuple[dict[str, Any], Tree, str]:
    """Writes the config of a case; returns PyTorch's tensors, T5X's flat tree, and the layout."""
    state = model_of(*settings_of(case), folder)
    return state, *tree_of(case, state)


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.parametrize(
    ("case", "kind"),
    [*((case, "checkpoint") for case in CASES), ("t5", "tree"), ("umt5", "tree"), ("t5", "target")],
)
def test_to_pytorch(case: str, kind: str, tmp_path: Path) -> None:
    """Found by its names, in T5X's own checkpoint and within a training state; every tensor is bit for bit PyTorch's."""
    source = tmp_path / "source"
    state, flat, layout = make(case, source)
    if kind == "checkpoint":
        pytest.importorskip("tensorstore")
        scales = frozenset(name for name in flat if name.endswith("scale"))
        write_t5x(source, flat, small=scales, state=False, chunk=16)
    else:
        tree = {"target": nested(flat)} if kind == "target" else nested(flat)
        (source / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    assert open_checkpoint(source).layout == layout
    convert(source, tmp_path / "out", to="pytorch")
    expected = {
        name: value
        for name, value in state.items()
        if (name not in EMBEDDINGS or case.startswith(("longt5", "pix2struct")))
        and (name != "lm_head.weight" or not CASES[case][1]["tie_word_embeddings"])
    }
    assert_same(load_file(tmp_path / "out" / "model.safetensors"), expected)


@pytest.mark.parametrize("case", CASES)
def test_from_pytorch(case: str, tmp_path: Path) -> None:
    """The tree that Flax restores of what we write is T5X's."""
    from safetensors.numpy import save_file

    source = tmp_path / "source"
    state, flat, layout = make(case, source)
    save_file({key: value.copy() for key, value in state.items()}, source / "model.safetensors")
    convert(source, tmp_path / "out", to=layout)
    content = (tmp_path / "out" / "flax_model.msgpack").read_bytes()
    assert_same(flatten_dict(serialization.msgpack_restore(content), sep="/"), flat)


@pytest.mark.parametrize("case", ["t5-v1.1", "umt5"])
def test_orbax(case: str, tmp_path: Path) -> None:
    """Orbax restores what we write, and what it writes becomes PyTorch's tensors; the optimizer's state is a tree beside."""
    checkpoint = pytest.importorskip("orbax.checkpoint")
    source = tmp_path / "source"
    state, flat, layout = make(case, source)
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(source / "orbax_checkpoint", nested(flat))
    assert open_checkpoint(source).layout == layout
    convert(source, tmp_path / "pytorch", to="pytorch")
    found = load_file(tmp_path / "pytorch" / "model.safetensors")
    assert_same(found, {name: state[name] for name in found})
    assert len(found) >= len(state) - 3
    convert(tmp_path / "pytorch", tmp_path / "again", to=f"{layout}-orbax")
    with checkpoint.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "again" / "orbax_checkpoint")
    assert_same(flatten_dict(restored, sep="/"), flat)


@pytest.mark.parametrize("container", ["msgpack", "safetensors", "orbax"])
def test_stacks_in_parts(container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scanned layers that are read in parts give the files, hashes and checks that whole stacks give."""
    if container == "orbax":
        pytest.importorskip("tensorstore")
    source, form = tmp_path / "source", f"t5x-scanned-{container}"
    state, flat, _ = make("umt5", source)
    (source / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(nested(flat)))
    convert(source, tmp_path / "scanned", to=form)
    whole = convert(tmp_path / "scanned", tmp_path / "whole", to="pytorch")
    monkeypatch.setattr(stacks, "WHOLE_BYTES", 3000)
    parts = convert(tmp_path / "scanned", tmp_path / "parts", to="pytorch")
    assert parts.values["tensors"] == whole.values["tensors"]
    assert parts.values["sources"] == whole.values["sources"]
    assert parts.target_files == whole.target_files
    assert verify(tmp_path / "parts", source=tmp_path / "scanned").findings == ()
    loaded = state_dict(open_checkpoint(tmp_path / "scanned"))
    name = "decoder.block.10.layer.1.EncDecAttention.o.weight"
    np.testing.assert_array_equal(loaded[name][:].numpy(), state[name])


def test_switch_with_an_output_layer_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    name, settings = settings_of("switch")
    source = tmp_path / "source"
    state = model_of(name, {**settings, "tie_word_embeddings": False}, source)
    save_file({key: value.copy() for key, value in state.items()}, source / "model.safetensors")
    with pytest.raises(CoverageError, match="no output layer of their own"):
        convert(source, tmp_path / "out", to="t5x")


def test_a_checkpoint_without_a_config_says_where_to_take_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorstore")
    _, flat, _ = make("t5", tmp_path / "source")
    few = ("token_embedder/embedding", "encoder/layers_0/pre_attention_layer_norm/scale")
    write_t5x(tmp_path / "checkpoint_7", {name: flat[name] for name in few})
    with pytest.raises(ArchitectureError, match=r"config\.gin in the folder above"):
        convert(tmp_path / "checkpoint_7", tmp_path / "out", to="pytorch")


def test_flax_outputs(tmp_path: Path) -> None:
    """To Flax' own layout, over PyTorch in one step a tensor."""
    source = tmp_path / "source"
    state, flat, _ = make("t5-v1.1", source)
    (source / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(nested(flat)))
    convert(source, tmp_path / "out", to="flax")
    tree = serialization.msgpack_restore((tmp_path / "out" / "flax_model.msgpack").read_bytes())
    np.testing.assert_array_equal(
        tree["decoder"]["block"]["10"]["layer"]["1"]["EncDecAttention"]["o"]["kernel"],
        state["decoder.block.10.layer.1.EncDecAttention.o.weight"].T,
    )


@pytest.mark.parametrize("change", ["drop", "transpose", "rename"])
def test_a_wrong_tree_is_refused(change: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _, flat, _ = make("t5-v1.1", source)
    name = "decoder/layers_10/mlp/wo/kernel"
    value = flat.pop(name)
    if change == "transpose":
        flat[name] = value.T
    if change == "rename":
        flat["decoder/layers_11/mlp/wo/kernel"] = value
    (source / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(nested(flat)))
    with pytest.raises(CoverageError, match="layers_1"):
        convert(source, tmp_path / "out", to="pytorch")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["t5x", "t5x-scanned"])
def test_every_architecture_is_judged_or_not_proven(layout: str) -> None:
    judged = {
        type_of(name)
        for name, _ in map(settings_of, CASES)
        if (name == "UMT5") == (layout != "t5x")
    }
    unproven = {one.model_type for one in known_specs(layout) if "unproven" in one.layouts[layout]}
    assert judged | unproven == {one.model_type for one in known_specs(layout)}
    assert not judged & unproven


def type_of(name: str) -> str:
    """Returns the model type of a class of transformers."""
    import transformers

    return str(getattr(transformers, f"{name}Config").model_type)
