"""Architectures that neither TensorFlow nor Flax has: names and shapes are those of PyTorch's classes, built without weights."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.layouts import pytorch

CONFIGS: dict[str, list[dict[str, Any]]] = {
    "canine": [
        {"hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 36, "num_hash_functions": 4, "num_hash_buckets": 17,
         "num_attention_heads": 4, "type_vocab_size": 5, "downsampling_rate": 3, "upsampling_kernel_size": 5},
    ],
    "imagegpt": [
        {"n_embd": 12, "n_layer": 2, "n_head": 3, "vocab_size": 17, "n_positions": 25},
        {"n_embd": 12, "n_layer": 2, "n_head": 3, "vocab_size": 17, "n_positions": 25, "n_inner": 20},
    ],
    "mobilenet_v1": [{"depth_multiplier": 0.25}, {"depth_multiplier": 0.1, "min_depth": 5, "num_channels": 1}],
    "mobilenet_v2": [
        {"depth_multiplier": one} for one in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
    ] + [{"depth_divisible_by": 4, "min_depth": 3, "expand_ratio": 3.3, "finegrained_output": False, "depth_multiplier": 0.6},
         {"first_layer_is_expansion": False}],
    "umt5": [
        {"d_model": 14, "d_kv": 5, "d_ff": 23, "num_heads": 3, "num_layers": 3, "num_decoder_layers": 2, "vocab_size": 37,
         "relative_attention_num_buckets": 8},
    ],
    "switch_transformers": [
        {"d_model": 14, "d_kv": 5, "d_ff": 23, "num_heads": 3, "num_layers": layers, "num_decoder_layers": 5, "vocab_size": 37, "num_experts": 3,
         "relative_attention_num_buckets": 8, "num_sparse_encoder_layers": encoder, "num_sparse_decoder_layers": decoder}
        for layers, encoder, decoder in ((4, 2, 1), (3, 3, 5), (3, 0, 0), (1, 0, 9))
    ],
    "pix2struct": [
        {"text_config": {"vocab_size": 37, "hidden_size": 15, "d_kv": 5, "d_ff": 23, "num_heads": 3, "num_layers": 3, "relative_attention_num_buckets": 8},
         "vision_config": {"hidden_size": 14, "patch_embed_hidden_size": 11, "d_ff": 17, "d_kv": 5, "num_attention_heads": 2, "num_hidden_layers": 2,
                           "seq_len": 19}},
    ],
    "bert-generation": [
        {"hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 36, "num_attention_heads": 4, "vocab_size": 61},
        {"hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 36, "num_attention_heads": 4, "vocab_size": 61,
         "is_decoder": True, "add_cross_attention": True},
    ],
}  # fmt: skip


@pytest.mark.parametrize("model_type", CONFIGS)
def test_names_and_shapes(model_type: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    spec = load_spec(model_type)
    assert spec is not None
    for values in CONFIGS[model_type]:
        config = transformers.AutoConfig.for_model(model_type, **values)
        for cls in spec.classes.values():
            with torch.device("meta"):
                model = getattr(transformers, cls.name)(config)
            theirs = {name: tuple(one.shape) for name, one in model.state_dict().items()}
            expansion = expand(spec, cls, Config(config.to_dict()))
            parameters = expansion.parameters
            ours = {
                rule.targets[0]: parameters[rule.sources[0]].shape
                for rule in pytorch.view(expansion).rules
            }
            ignored = {name for name in theirs if name.endswith((".attn.bias", ".masked_bias"))}
            assert ours == {name: shape for name, shape in theirs.items() if name not in ignored}
