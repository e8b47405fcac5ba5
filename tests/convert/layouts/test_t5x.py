"""T5X's trees: the rule that Google and Hugging Face published for them, written here by hand, on trees that Flax and Orbax wrote."""

from __future__ import annotations

import json
from collections import defaultdict
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
from equipoise.convert.core.errors import CoverageError
from equipoise.exporters.weight_layout import nest_paths
from equipoise.fixtures.t5x_checkpoints import write_t5x

pytestmark = pytest.mark.transformers

LAYERS = 11
EXPERTS = 4
SIZES = {
    "vocab_size": 37,
    "d_model": 14,
    "d_kv": 5,
    "d_ff": 23,
    "num_heads": 3,
    "num_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "relative_attention_num_buckets": 8,
}
KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out"}
BLOCKS = {
    "encoder": [("0.SelfAttention", "attention", "pre_attention_layer_norm")],
    "decoder": [
        ("0.SelfAttention", "self_attention", "pre_self_attention_layer_norm"),
        ("1.EncDecAttention", "encoder_decoder_attention", "pre_cross_attention_layer_norm"),
    ],
}
"""Side -> attention in PyTorch and in T5X, and its norm in T5X."""
Tree = dict[str, Any]


def model_of(name: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """Writes a model's config and PyTorch weights, all of them random; returns its tensors."""
    import transformers

    values = {**SIZES, **settings}
    config = getattr(transformers, f"{name}Config")(**values)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    generator = torch.Generator().manual_seed(3)
    state = {
        key: torch.randn(value.shape, generator=generator)
        for key, value in model.state_dict().items()
    }
    if settings["tie_word_embeddings"]:
        state["lm_head.weight"] = state["shared.weight"]
    for side in BLOCKS:
        state[f"{side}.embed_tokens.weight"] = state["shared.weight"]
    folder.mkdir()
    content = {**config.to_dict(), **values, "architectures": [f"{name}ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(content))
    return {key: value.numpy() for key, value in state.items()}


def outer(state: Mapping[str, Any], *, has_head: bool) -> Tree:
    """Returns what lies outside of the layers."""
    flat = {
        "token_embedder/embedding": state["shared.weight"],
        "encoder/encoder_norm/scale": state["encoder.final_layer_norm.weight"],
        "decoder/decoder_norm/scale": state["decoder.final_layer_norm.weight"],
    }
    if has_head:
        flat["decoder/logits_dense/kernel"] = state["lm_head.weight"].T
    return flat


def layers(state: Mapping[str, Any], side: str, index: int, wide: tuple[str, ...]) -> Tree:
    """Returns one layer of a side as T5X stores it where layers are not scanned."""
    block, flat = f"{side}.block.{index}.layer", {}
    for theirs, ours, norm in BLOCKS[side]:
        for short, long in KERNELS.items():
            flat[f"{ours}/{long}/kernel"] = state[f"{block}.{theirs}.{short}.weight"].T
        flat[f"{norm}/scale"] = state[f"{block}.{theirs[0]}.layer_norm.weight"]
    last = len(BLOCKS[side])
    for name in (*wide, "wo"):
        flat[f"mlp/{name}/kernel"] = state[f"{block}.{last}.DenseReluDense.{name}.weight"].T
    flat["pre_mlp_layer_norm/scale"] = state[f"{block}.{last}.layer_norm.weight"]
    return flat


def positions(state: Mapping[str, Any], side: str, index: int) -> Any:
    """Returns the relative positions of a layer: heads, buckets."""
    return state[f"{side}.block.{index}.layer.0.SelfAttention.relative_attention_bias.weight"].T


def plain_tree(state: Mapping[str, Any], *, wide: tuple[str, ...], has_head: bool) -> Tree:
    """Returns the tree of T5 and MT5."""
    flat = outer(state, has_head=has_head)
    for side in BLOCKS:
        flat[f"{side}/relpos_bias/rel_embedding"] = positions(state, side, 0)
        for index in range(LAYERS):
            for name, value in layers(state, side, index, wide).items():
                flat[f"{side}/layers_{index}/{name}"] = value
    return flat


def scanned_tree(state: Mapping[str, Any]) -> Tree:
    """Returns the tree of UMT5: all layers in one array, along the second axis, with heads as an axis."""
    flat = outer(state, has_head=True)
    heads, width = SIZES["num_heads"], SIZES["d_kv"]
    for side in BLOCKS:
        every = [layers(state, side, index, ("wi_0", "wi_1")) for index in range(LAYERS)]
        for name in every[0]:
            values = [one[name] for one in every]
            if "/out/" in name:
                values = [one.reshape(heads, width, -1) for one in values]
            elif "attention/" in name:
                values = [one.reshape(-1, heads, width) for one in values]
            flat[f"{side}/{side}/{name}"] = np.stack(values, 1)
        relative = [positions(state, side, index) for index in range(LAYERS)]
        flat[f"{side}/{side}/relpos_bias/rel_embedding"] = np.stack(relative, 1)
    return flat


def nested(flat: Tree) -> Tree:
    """Returns a flat tree as nested dictionaries of contiguous arrays."""
    return nest_paths({name: np.ascontiguousarray(value) for name, value in flat.items()})


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5", {"feed_forward_proj": "relu", "tie_word_embeddings": True}),
    "t5-v1.1": ("T5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("MT5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "umt5": ("UMT5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "longt5-local": (
        "LongT5",
        {
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "encoder_attention_type": "local",
        },
    ),
    "longt5-tglobal": (
        "LongT5",
        {
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "encoder_attention_type": "transient-global",
        },
    ),
    "switch": (
        "SwitchTransformers",
        {
            "tie_word_embeddings": True,
            "num_sparse_encoder_layers": 5,
            "num_sparse_decoder_layers": 3,
            "num_experts": EXPERTS,
        },
    ),
}


def make(case: str, folder: Path) -> tuple[dict[str, Any], Tree, str]:
    """Writes the config of a case; returns PyTorch's tensors, T5X's flat tree, and the layout."""
    name, settings = CASES[case]
    state = model_of(name, folder, **settings)
    if name == "UMT5":
        return state, scanned_tree(state), "t5x-scanned"
    gated = settings.get("feed_forward_proj", "relu") != "relu"
    wide = ("wi_0", "wi_1") if gated else ("wi",)
    if name == "LongT5":
        flat = plain_tree(as_t5(state), wide=wide, has_head=gated)
        return state, {**flat, **global_attention(state)}, "t5x"
    if name == "SwitchTransformers":
        flat = plain_tree(as_t5(state), wide=wide, has_head=gated)
        dense = {key: value for key, value in flat.items() if value.size}
        return state, {**dense, **experts(state)}, "t5x"
    return state, plain_tree(state, wide=wide, has_head=gated), "t5x"


def as_t5(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tensors of LongT5 or Switch under T5's names, zeros for the dense layers that experts replace."""
    renamed = {
        name.replace("LocalSelfAttention", "SelfAttention")
        .replace("TransientGlobalSelfAttention", "SelfAttention")
        .replace(".mlp.", ".DenseReluDense."): value
        for name, value in state.items()
    }
    return defaultdict(lambda: np.zeros(0), renamed)


def global_attention(state: Mapping[str, Any]) -> Tree:
    """Returns what LongT5's global attention adds, as its conversion script reads it."""
    start = "encoder.block.{}.layer.0.TransientGlobalSelfAttention"
    bias = state.get(f"{start.format(0)}.global_relative_attention_bias.weight")
    if bias is None:
        return {}
    return {
        "encoder/side_relpos_bias/rel_embedding": bias.T,
        **{
            f"encoder/layers_{index}/attention/T5LayerNorm_0/scale": state[
                f"{start.format(index)}.global_input_layer_norm.weight"
            ]
            for index in range(LAYERS)
        },
    }


def experts(state: Mapping[str, Any]) -> Tree:
    """Returns the experts and routers of Switch: in every second layer of the encoder, every third of the decoder."""
    flat: Tree = {}
    for side, last, step in (("encoder", 1, 2), ("decoder", 2, 3)):
        for index in range(1, LAYERS, step):
            start = f"{side}.block.{index}.layer.{last}.mlp"
            for name in ("wi", "wo"):
                every = [
                    state[f"{start}.experts.expert_{one}.{name}.weight"].T for one in range(EXPERTS)
                ]
                flat[f"{side}/layers_{index}/mlp/expert/{name}/kernel"] = np.stack(every)
            router = state[f"{start}.router.classifier.weight"].T
            flat[f"{side}/layers_{index}/mlp/router/router_weights/w/kernel"] = router
    return flat


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
        write_t5x(source, flat, small=scales, state=False)
    else:
        tree = {"target": nested(flat)} if kind == "target" else nested(flat)
        (source / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    assert open_checkpoint(source).layout == layout
    convert(source, tmp_path / "out", to="pytorch")
    expected = {
        name: value
        for name, value in state.items()
        if (not name.endswith("embed_tokens.weight") or case.startswith("longt5"))
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


PIX2STRUCT = {
    "text_config": {
        "vocab_size": 37, "hidden_size": 15, "d_kv": 5, "d_ff": 23, "num_heads": 3, "num_layers": 3,
        "relative_attention_num_buckets": 8,
    },
    "vision_config": {
        "hidden_size": 14, "patch_embed_hidden_size": 11, "d_ff": 17, "d_kv": 5, "num_attention_heads": 2,
        "num_hidden_layers": 11, "seq_len": 19,
    },
}  # fmt: skip


def pix2struct_tree(state: Mapping[str, Any]) -> Tree:
    """Returns Pix2Struct's tree, as its conversion script reads it."""
    flat = {
        "encoder/token_embedder/patch_projection/kernel": state[
            "encoder.embeddings.patch_projection.weight"
        ].T,
        "encoder/token_embedder/patch_projection/bias": state[
            "encoder.embeddings.patch_projection.bias"
        ],
        "encoder/token_embedder/embedders_0/pos_embedding": state[
            "encoder.embeddings.row_embedder.weight"
        ],
        "encoder/token_embedder/embedders_1/pos_embedding": state[
            "encoder.embeddings.column_embedder.weight"
        ],
        "encoder/encoder_norm/scale": state["encoder.layernorm.weight"],
        "decoder/token_embedder/embedding": state["decoder.embed_tokens.weight"],
        "decoder/decoder_norm/scale": state["decoder.final_layer_norm.weight"],
        "decoder/logits_dense/kernel": state["decoder.lm_head.weight"].T,
        "decoder/relpos_bias/rel_embedding": state[
            "decoder.layer.0.self_attention.attention.relative_attention_bias.weight"
        ].T,
    }
    for index in range(11):
        ours, theirs = f"encoder/layers_{index}", f"encoder.encoder.layer.{index}"
        for name, other in (
            ("query", "query"),
            ("key", "key"),
            ("value", "value"),
            ("out", "output"),
        ):
            flat[f"{ours}/attention/{name}/kernel"] = state[f"{theirs}.attention.{other}.weight"].T
        for name in ("wi_0", "wi_1", "wo"):
            flat[f"{ours}/mlp/{name}/kernel"] = state[f"{theirs}.mlp.{name}.weight"].T
        for name in ("pre_attention_layer_norm", "pre_mlp_layer_norm"):
            flat[f"{ours}/{name}/scale"] = state[f"{theirs}.{name}.weight"]
    for index in range(3):
        ours, theirs = f"decoder/layers_{index}", f"decoder.layer.{index}"
        for part, norm in (("self_attention", "self"), ("encoder_decoder_attention", "cross")):
            for name, other in (
                ("query", "query"),
                ("key", "key"),
                ("value", "value"),
                ("out", "output"),
            ):
                flat[f"{ours}/{part}/{name}/kernel"] = state[
                    f"{theirs}.{part}.attention.{other}.weight"
                ].T
            flat[f"{ours}/pre_{norm}_attention_layer_norm/scale"] = state[
                f"{theirs}.{part}.layer_norm.weight"
            ]
        for name in ("wi_0", "wi_1", "wo"):
            flat[f"{ours}/mlp/{name}/kernel"] = state[
                f"{theirs}.mlp.DenseReluDense.{name}.weight"
            ].T
        flat[f"{ours}/pre_mlp_layer_norm/scale"] = state[f"{theirs}.mlp.layer_norm.weight"]
    return flat


def test_pix2struct(tmp_path: Path) -> None:
    """An encoder of image patches: its checkpoint becomes PyTorch's tensors, and comes back."""
    import transformers

    pytest.importorskip("tensorstore")
    config = transformers.Pix2StructConfig(**PIX2STRUCT)
    model = transformers.Pix2StructForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(3)
    state = {
        name: torch.randn(value.shape, generator=generator).numpy()
        for name, value in model.state_dict().items()
    }
    source, flat = tmp_path / "source", pix2struct_tree(state)
    assert len(flat) == len(state)
    write_t5x(source, flat, state=False)
    content = {**config.to_dict(), "architectures": ["Pix2StructForConditionalGeneration"]}
    (source / "config.json").write_text(json.dumps(content))
    assert open_checkpoint(source).layout == "t5x"
    convert(source, tmp_path / "out", to="pytorch")
    assert_same(load_file(tmp_path / "out" / "model.safetensors"), state)
    convert(tmp_path / "out", tmp_path / "again", to="t5x")
    content = (tmp_path / "again" / "flax_model.msgpack").read_bytes()
    assert_same(flatten_dict(serialization.msgpack_restore(content), sep="/"), flat)


def test_switch_with_an_output_layer_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    name, settings = CASES["switch"]
    source = tmp_path / "source"
    state = model_of(name, source, **{**settings, "tie_word_embeddings": False})
    save_file({key: value.copy() for key, value in state.items()}, source / "model.safetensors")
    with pytest.raises(CoverageError, match="no output layer of their own"):
        convert(source, tmp_path / "out", to="t5x")


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
