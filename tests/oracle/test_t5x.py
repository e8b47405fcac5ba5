"""T5X's trees through the Flax classes of 4.57.6: the model that its conversion scripts make, and PyTorch's from what we convert, answer alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

serialization = pytest.importorskip("flax.serialization")
pytest.importorskip("tensorstore")

from equipoise.convert import convert
from equipoise.exporters.weight_layout import nest_paths
from equipoise.fixtures.t5x_checkpoints import write_t5x
from equipoise.validators.runtime.process import WorkerProcess
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = [pytest.mark.oracle, pytest.mark.transformers]

LAYERS = 3
SIZES = {
    "vocab_size": 61, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_heads": 3, "num_layers": LAYERS, "num_decoder_layers": LAYERS,
    "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0,
    "is_encoder_decoder": True, "local_radius": 5, "global_block_size": 4, "pad_token_id": 0,
}  # fmt: skip
HEADS = {"query": "q", "key": "k", "value": "v", "out": "o"}
CASES = {
    "t5": ("T5", "SelfAttention", {}),
    "longt5-local": ("LongT5", "LocalSelfAttention", {"encoder_attention_type": "local"}),
    "longt5-tglobal": (
        "LongT5",
        "TransientGlobalSelfAttention",
        {"encoder_attention_type": "transient-global"},
    ),
}


def names(attention: str, *, is_global: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns T5X's name -> (name in Flax, shape in T5X), as convert_longt5x_checkpoint_to_flax.py assigns them."""
    wide, inner, model = SIZES["d_ff"], SIZES["num_heads"] * SIZES["d_kv"], SIZES["d_model"]  # type: ignore[operator]
    positions = (SIZES["num_heads"], SIZES["relative_attention_num_buckets"])
    found: dict[str, Any] = {
        "token_embedder/embedding": ("shared/embedding", (SIZES["vocab_size"], model)),
        "decoder/logits_dense/kernel": ("lm_head/kernel", (model, SIZES["vocab_size"])),
    }
    for side, own in (("encoder", attention), ("decoder", "SelfAttention")):
        first = f"{side}/block/0/layer/0/{own}"
        found[f"{side}/{side}_norm/scale"] = (f"{side}/final_layer_norm/weight", (model,))
        found[f"{side}/relpos_bias/rel_embedding"] = (
            f"{first}/relative_attention_bias/embedding",
            positions,
        )
        if is_global and side == "encoder":
            found["encoder/side_relpos_bias/rel_embedding"] = (
                f"{first}/global_relative_attention_bias/embedding",
                positions,
            )
        parts = [("attention", own, "attention")]
        if side == "decoder":
            parts = [
                ("self_attention", own, "self_attention"),
                ("encoder_decoder_attention", "EncDecAttention", "cross_attention"),
            ]
        for index in range(LAYERS):
            theirs, block = f"{side}/layers_{index}", f"{side}/block/{index}/layer"
            for at, (part, name, norm) in enumerate(parts):
                for long, short in HEADS.items():
                    shape = (inner, model) if short == "o" else (model, inner)
                    found[f"{theirs}/{part}/{long}/kernel"] = (
                        f"{block}/{at}/{name}/{short}/kernel",
                        shape,
                    )
                found[f"{theirs}/pre_{norm}_layer_norm/scale"] = (
                    f"{block}/{at}/layer_norm/weight",
                    (model,),
                )
            if is_global and side == "encoder":
                found[f"{theirs}/attention/T5LayerNorm_0/scale"] = (
                    f"{block}/0/{own}/global_input_layer_norm/weight",
                    (model,),
                )
            last = len(parts)
            for name, shape in (
                ("wi_0", (model, wide)),
                ("wi_1", (model, wide)),
                ("wo", (wide, model)),
            ):
                found[f"{theirs}/mlp/{name}/kernel"] = (
                    f"{block}/{last}/DenseReluDense/{name}/kernel",
                    shape,
                )
            found[f"{theirs}/pre_mlp_layer_norm/scale"] = (
                f"{block}/{last}/layer_norm/weight",
                (model,),
            )
    return found


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_flax_class(
    case: str, oracle: WorkerProcess, tmp_path: Path
) -> None:
    name, attention, settings = CASES[case]
    random = np.random.default_rng(11)
    table = names(attention, is_global="Global" in attention)
    tree = {
        key: random.normal(0, 0.3, shape).astype(np.float32) for key, (_, shape) in table.items()
    }
    model_class = f"{name}ForConditionalGeneration"
    config = {
        **SIZES,
        **settings,
        "model_type": name.lower(),
        "architectures": [model_class],
    }
    for folder in ("t5x", "flax"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    write_t5x(tmp_path / "t5x", tree, chunk=16)
    flax = {
        other: tree[key].T if key.endswith("rel_embedding") else tree[key]
        for key, (other, _) in table.items()
    }
    content = serialization.msgpack_serialize(
        nest_paths({key: np.ascontiguousarray(value) for key, value in flax.items()})
    )
    (tmp_path / "flax" / "flax_model.msgpack").write_bytes(content)
    convert(tmp_path / "t5x", tmp_path / "pytorch", to="pytorch")
    given: dict[str, npt.NDArray[Any]] = {
        "input_ids": random.integers(1, 61, (2, 17)),
        "attention_mask": np.ones((2, 17), np.int64),
        "decoder_input_ids": random.integers(1, 61, (2, 5)),
    }
    outputs = {}
    for framework in ("pytorch", "flax"):
        model = RemoteModel(oracle, framework, model_class, tmp_path / framework)
        assert not model.info["missing_keys"], framework
        outputs[framework] = model.run(given)["logits"]
        model.drop()
    scale = np.abs(outputs["flax"]).max()
    assert np.abs(outputs["flax"]).std() > scale / 100
    assert np.abs(outputs["pytorch"] - outputs["flax"]).max() <= 1e-5 * scale
