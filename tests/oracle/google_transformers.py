"""Checkpoints of Transformer-XL, XLNet, Funnel and T5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google_shapes import (
    GoogleCase,
    Shapes,
    dense,
    norm,
    relative_attention,
)


def funnel_cases() -> Iterator[GoogleCase]:
    # The loader of 4.57.6 is right only where the heads together are as wide as the model.
    width, heads, size, inner, layers = 24, 4, 6, 36, 9
    config = {
        "vocab_size": 61, "d_model": width, "n_head": heads, "d_head": size, "d_inner": inner,
        "block_sizes": [3, 2, 1], "num_decoder_layers": 3,
    }  # fmt: skip
    own = {
        "vocab_size": 61, "d_model": width, "d_embed": width, "n_head": heads, "d_head": size, "d_inner": inner,
        "block_size": "3_2_1", "decoder_size": "3", "ff_activation": "gelu", "dropout": 0.1, "dropatt": 0.1,
        "dropact": 0.0, "rel_attn_type": "factorized", "separate_cls": True, "pooling_type": "mean", "pooling_size": 2,
        "pool_q_only": True, "init": "truncated_normal", "init_std": 0.02, "init_range": 0.1,
    }  # fmt: skip
    shapes: Shapes = {
        "model/input/word_embedding/lookup_table": [61, width],
        **norm("model/input/layer_norm", width),
    }
    for layer in range(layers):
        scope = f"model/{'encoder' if layer < 6 else 'decoder'}/layer_{layer}"
        shapes |= relative_attention(scope, width, heads, size, "layer_norm")
        shapes |= {
            f"{scope}/rel_attn/k/bias": [heads, size],
            f"{scope}/rel_attn/v/bias": [heads, size],
            f"{scope}/rel_attn/o/kernel": [heads, size, width],
            f"{scope}/rel_attn/o/bias": [width],
            f"{scope}/rel_attn/r_w_bias": [heads, size],
            f"{scope}/rel_attn/r_r_bias": [heads, size],
            f"{scope}/rel_attn/r_s_bias": [heads, size],
            f"{scope}/rel_attn/seg_embed": [2, heads, size],
            **dense(f"{scope}/ff/layer_1", width, inner),
            **dense(f"{scope}/ff/layer_2", inner, width),
        }
    yield GoogleCase(
        "funnel",
        "funnel.modeling_funnel.FunnelModel",
        "load_tf_weights_in_funnel",
        shapes,
        config,
        ("net_config.json", own),
    )


XLNET_SIZES = 21, 3, 7, 36, 11
"""Width, heads, their size, inner width and layers."""


def xlnet_body() -> tuple[dict[str, Any], dict[str, Any], Shapes]:
    """Returns the config of transformers, that of the repository, and the variables of the model without a head."""
    width, heads, size, inner, layers = XLNET_SIZES
    config = {
        "vocab_size": 61, "d_model": width, "n_head": heads, "d_head": size, "d_inner": inner, "n_layer": layers,
    }  # fmt: skip
    own = {
        "n_token": 61, "d_model": width, "n_head": heads, "d_head": size, "d_inner": inner, "n_layer": layers,
        "ff_activation": "gelu", "untie_r": True,
    }  # fmt: skip
    scope = "model/transformer"
    shapes: Shapes = {
        f"{scope}/word_embedding/lookup_table": [61, width],
        f"{scope}/mask_emb/mask_emb": [1, 1, width],
        f"{scope}/r_w_bias": [layers, heads, size],
        f"{scope}/r_r_bias": [layers, heads, size],
        f"{scope}/r_s_bias": [layers, heads, size],
        f"{scope}/seg_embed": [layers, 2, heads, size],
    }
    for layer in range(layers):
        inside = f"{scope}/layer_{layer}"
        shapes |= relative_attention(inside, width, heads, size, "LayerNorm")
        shapes[f"{inside}/rel_attn/o/kernel"] = [width, heads, size]
        shapes |= dense(f"{inside}/ff/layer_1", width, inner)
        shapes |= dense(f"{inside}/ff/layer_2", inner, width)
    return config, own, shapes


def xlnet_squad_case() -> GoogleCase:
    """Returns what run_squad.py leaves; the loader of 4.57.6 does not know its heads."""
    config, own, shapes = xlnet_body()
    width = config["d_model"]
    return GoogleCase(
        "xlnet-squad",
        "xlnet.modeling_xlnet.XLNetForQuestionAnswering",
        "",
        {
            **shapes,
            **dense("start_logits/dense", width, 1),
            **dense("end_logits/dense_0", 2 * width, width),
            **norm("end_logits/LayerNorm", width),
            **dense("end_logits/dense_1", width, 1),
            **dense("answer_class/dense_0", 2 * width, width),
            "answer_class/dense_1/kernel": [width, 1],
        },
        config,
        ("xlnet_config.json", own),
    )


def xlnet_cases() -> Iterator[GoogleCase]:
    config, own, shapes = xlnet_body()
    width = config["d_model"]
    model, loader = "xlnet.modeling_xlnet.XLNet", "load_tf_weights_in_xlnet"
    yield GoogleCase(
        "xlnet",
        f"{model}LMHeadModel",
        loader,
        {**shapes, "model/lm_loss/bias": [61]},
        config,
        ("xlnet_config.json", own),
    )
    task = {**config, "finetuning_task": "sts-b", "num_labels": 1}
    yield GoogleCase(
        "xlnet-regression",
        f"{model}ForSequenceClassification",
        loader,
        {
            **shapes,
            **dense("model/sequnece_summary/summary", width, width),
            **dense("model/regression_sts-b/logit", width, 1),
        },
        task,
        ("config.json", {**task, "model_type": "xlnet"}),
    )


def transfo_xl_cases() -> Iterator[GoogleCase]:
    width, heads, size, inner, layers = 16, 3, 5, 36, 4
    cutoffs, vocabulary = [7, 18], 40
    config = {
        "vocab_size": vocabulary, "cutoffs": cutoffs, "d_model": width, "d_embed": width, "n_head": heads,
        "d_head": size, "d_inner": inner, "n_layer": layers, "div_val": 2,
        "proj_share_all_but_first": False, "tie_projs": [False, False, False],
    }  # fmt: skip
    shapes: Shapes = {
        "transformer/adaptive_softmax/cutoff_0/cluster_W": [len(cutoffs), width],
        "transformer/adaptive_softmax/cutoff_0/cluster_b": [len(cutoffs)],
        "transformer/r_r_bias": [layers, heads, size],
        "transformer/r_w_bias": [layers, heads, size],
    }
    ends = [0, *cutoffs, vocabulary]
    for index in range(3):
        count, narrow = ends[index + 1] - ends[index], width // 2**index
        shapes[f"transformer/adaptive_embed/cutoff_{index}/lookup_table"] = [count, narrow]
        shapes[f"transformer/adaptive_embed/cutoff_{index}/proj_W"] = [narrow, width]
        shapes[f"transformer/adaptive_softmax/cutoff_{index}/b"] = [count]
        shapes[f"transformer/adaptive_softmax/cutoff_{index}/proj"] = [narrow, width]
    for layer in range(layers):
        scope = f"transformer/layer_{layer}"
        shapes |= {
            f"{scope}/rel_attn/qkv/kernel": [width, 3 * heads * size],
            f"{scope}/rel_attn/r/kernel": [width, heads * size],
            f"{scope}/rel_attn/o/kernel": [heads * size, width],
            **norm(f"{scope}/rel_attn/LayerNorm", width),
            **norm(f"{scope}/ff/LayerNorm", width),
            **dense(f"{scope}/ff/layer_1", width, inner),
            **dense(f"{scope}/ff/layer_2", inner, width),
        }
    yield GoogleCase(
        "transfo-xl",
        "deprecated.transfo_xl.modeling_transfo_xl.TransfoXLLMHeadModel",
        "load_tf_weights_in_transfo_xl",
        shapes,
        config,
        unread=("transformer.pos_emb.inv_freq",),
    )


def t5_cases() -> Iterator[GoogleCase]:
    yield from (
        _t5_case(*one)
        for one in (
            ("t5", 11, False, "layer_norm"),
            ("t5", 2, True, "rms_norm"),
            ("mt5", 2, True, "rms_norm"),
        )
    )


def _t5_case(module: str, layers: int, gated: bool, norms: str) -> GoogleCase:
    width, heads, size, inner = 10, 3, 7, 36
    shapes: Shapes = {"shared/embedding": [61, width]}
    if gated:
        shapes["decoder/logits/kernel"] = [width, 61]
    for stack in ("encoder", "decoder"):
        last = "final_layer_norm" if norms == "layer_norm" else norms
        shapes[f"{stack}/{last}/scale"] = [width]
        parts = [
            "SelfAttention",
            *(["EncDecAttention"] if stack == "decoder" else []),
            "DenseReluDense",
        ]
        for block in range(layers):
            for index, part in enumerate(parts):
                scope = f"{stack}/block_{block:03d}/layer_{index:03d}"
                shapes[f"{scope}/{norms}/scale"] = [width]
                if part == "DenseReluDense":
                    for wide in ("wi_0", "wi_1") if gated else ("wi",):
                        shapes[f"{scope}/{part}/{wide}/kernel"] = [width, inner]
                    shapes[f"{scope}/{part}/wo/kernel"] = [inner, width]
                    continue
                shapes |= {f"{scope}/{part}/{one}": [width, heads * size] for one in "qkv"}
                shapes[f"{scope}/{part}/o"] = [heads * size, width]
                if part == "SelfAttention" and block == 0:
                    shapes[f"{scope}/{part}/relative_attention_bias"] = [heads, 8]
    config = {
        "vocab_size": 61, "d_model": width, "d_kv": size, "d_ff": inner, "num_heads": heads, "num_layers": layers,
        "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu" if gated else "relu",
        "tie_word_embeddings": not gated,
    }  # fmt: skip
    activation = "['gelu', 'linear']" if gated else "'relu'"
    gin = (
        "# Macros:\n"
        f"d_ff = {inner}\nd_kv = {size}\nd_model = {width}\nnum_heads = {heads}\nnum_layers = {layers}\n"
        "MIXTURE_NAME = 'c4'\n\n# Parameters for decoder/DenseReluDense:\n"
        f"decoder/DenseReluDense.activation = {activation}\ndecoder/DenseReluDense.hidden_size = %d_ff\n"
    )
    return GoogleCase(
        f"{module}-{norms}",
        f"{module}.modeling_{module}.{module.upper()}ForConditionalGeneration",
        f"load_tf_weights_in_{module}",
        shapes,
        config,
        ("operative_config.gin", gin) if module == "t5" else None,
    )
