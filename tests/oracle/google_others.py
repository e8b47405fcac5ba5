"""Checkpoints of ConvBERT, CANINE, BERT generation, GPT-2, GPT-Neo, ImageGPT and MobileNet."""

from __future__ import annotations

from collections.abc import Iterator

from google_shapes import (
    SHALLOW,
    SIZES,
    GoogleCase,
    Shapes,
    bert_encoder,
    bert_layer,
    dense,
    embeddings,
    norm,
    rows,
)


def convbert_cases() -> Iterator[GoogleCase]:
    width, narrow, inner, heads, kernel = 24, 12, 36, 2, 5
    for name, groups in (("convbert", 1), ("convbert-grouped", 2)):
        config = {
            **SIZES,
            "num_hidden_layers": 3,
            "embedding_size": narrow,
            "conv_kernel_size": kernel,
            "head_ratio": 2,
            "num_groups": groups,
        }
        half = width // 2
        shapes: Shapes = {
            **embeddings("electra/embeddings", config, narrow),
            **norm("electra/embeddings/LayerNorm", narrow),
            **dense("electra/embeddings_project", narrow, width),
        }
        for layer in range(3):
            scope = f"electra/encoder/layer_{layer}"
            for part in ("query", "key", "value"):
                shapes |= dense(f"{scope}/attention/self/{part}", width, half)
            shapes |= {
                f"{scope}/attention/self/conv_attn_key/depthwise_kernel": [kernel, width, 1],
                f"{scope}/attention/self/conv_attn_key/pointwise_kernel": [1, width, half],
                f"{scope}/attention/self/conv_attn_key/bias": [half],
                **dense(f"{scope}/attention/self/conv_attn_kernel", half, heads * kernel),
                **dense(f"{scope}/attention/self/conv_attn_point", width, half),
                **dense(f"{scope}/attention/output/dense", width, width),
                **norm(f"{scope}/attention/output/LayerNorm", width),
                **norm(f"{scope}/output/LayerNorm", width),
            }
            for part, inputs, outputs in (("intermediate", width, inner), ("output", inner, width)):
                if groups == 1:
                    shapes |= dense(f"{scope}/{part}/dense", inputs, outputs)
                else:
                    shapes[f"{scope}/{part}/g_dense/kernel"] = [
                        groups, inputs // groups, outputs // groups,
                    ]  # fmt: skip
                    shapes[f"{scope}/{part}/g_dense/bias"] = [outputs]
        yield GoogleCase(
            name,
            "convbert.modeling_convbert.ConvBertModel",
            "load_tf_weights_in_convbert",
            shapes,
            config,
        )


def gpt_cases() -> Iterator[GoogleCase]:
    width, inner, layers = 12, 48, 12

    def convolution(scope: str, inputs: int, outputs: int) -> Shapes:
        return {f"{scope}/w": [1, inputs, outputs], f"{scope}/b": [outputs]}

    def scale(scope: str) -> Shapes:
        return {f"{scope}/g": [width], f"{scope}/b": [width]}

    shapes: Shapes = {"model/wte": [61, width], "model/wpe": [40, width], **scale("model/ln_f")}
    for layer in range(layers):
        scope = f"model/h{layer}"
        shapes |= {
            **scale(f"{scope}/ln_1"),
            **scale(f"{scope}/ln_2"),
            **convolution(f"{scope}/attn/c_attn", width, 3 * width),
            **convolution(f"{scope}/attn/c_proj", width, width),
            **convolution(f"{scope}/mlp/c_fc", width, inner),
            **convolution(f"{scope}/mlp/c_proj", inner, width),
        }
    own = {"n_vocab": 61, "n_ctx": 40, "n_embd": width, "n_head": 3, "n_layer": layers}
    config = {"vocab_size": 61, "n_positions": 40, "n_embd": width, "n_head": 3, "n_layer": layers}
    yield GoogleCase(
        "gpt2",
        "gpt2.modeling_gpt2.GPT2Model",
        "load_tf_weights_in_gpt2",
        shapes,
        config,
        ("hparams.json", own),
        below="transformer.",
    )
    yield GoogleCase(
        "decision_transformer",
        "decision_transformer.modeling_decision_transformer.DecisionTransformerGPT2Model",
        "load_tf_weights_in_gpt2",
        shapes,
        {**config, "hidden_size": width, "n_ctx": 40},
        ("hparams.json", own),
        below="transformer.",
    )
    # Seven rows fill the vocabulary up.
    shapes = {"gpt2/wte": [68, width], "gpt2/wpe": [40, width], **scale("gpt2/ln_f")}
    for layer in range(3):
        scope = f"gpt2/h{layer}"
        shapes |= {
            **scale(f"{scope}/norm_1"),
            **scale(f"{scope}/norm_2"),
            **{f"{scope}/attn/{part}": [width, width] for part in "qkvo"},
            f"{scope}/attn/compute_output_bias/o_b": [width],
            **dense(f"{scope}/mlp/conv1d_main/c_fc", width, inner),
            **dense(f"{scope}/mlp/conv1d_main/c_proj", inner, width),
        }
    config = {
        "vocab_size": 61, "max_position_embeddings": 40, "hidden_size": width, "num_heads": 3, "num_layers": 3,
        "attention_types": [[["global"], 3]],
    }  # fmt: skip
    own = {
        "n_vocab": 61, "n_ctx": 40, "n_embd": width, "n_head": 3, "n_layer": 3, "attention_types": [[["global"], 3]],
        "embed_dropout": 0, "lr": 0.00016, "mesh_shape": "x:64,y:4", "mesh_layout": "batch:x,embd:y",
    }  # fmt: skip
    for dtype in ("float32", "bfloat16"):
        yield GoogleCase(
            f"gpt_neo-{dtype}",
            "gpt_neo.modeling_gpt_neo.GPTNeoForCausalLM",
            "load_tf_weights_in_gpt_neo",
            shapes,
            config,
            ("config.json", own),
            dtype=dtype,
        )


def canine_cases() -> Iterator[GoogleCase]:
    width, inner, buckets = 24, 36, 17
    config = {
        **SIZES, "num_hidden_layers": 3, "num_hash_functions": 4, "num_hash_buckets": buckets, "type_vocab_size": 5,
        "downsampling_rate": 3, "upsampling_kernel_size": 5, "max_position_embeddings": 40,
    }  # fmt: skip
    own = {**config, "type_vocab_size": 2, "max_positions": 17}
    shapes: Shapes = {
        **{
            f"char_embeddings/embeddings/HashBucketCodepointEmbedder_{i}": [buckets, 6]
            for i in range(4)
        },
        "char_embeddings/char_position_embeddings": [buckets, width],
        "char_embeddings/segment_embeddings": [5, width],
        **norm("char_embeddings/LayerNorm", width),
        **bert_layer("initial_char_encoder/layer_0", width, inner),
        **bert_layer("final_char_encoder/layer_0", width, inner),
        "final_char_encoder/conv/kernel": [5, 2 * width, width],
        "final_char_encoder/conv/bias": [width],
        **norm("final_char_encoder/LayerNorm", width),
        **dense("pooler/dense", width, width),
        **rows("cls/seq_relationship", 2, width),
    }
    molecules = "initial_char_encoder/initial_char_encoder/chars_to_molecules"
    shapes |= {f"{molecules}/conv/kernel": [3, width, width], f"{molecules}/conv/bias": [width]}
    shapes |= norm(f"{molecules}/LayerNorm", width)
    for layer in range(config["num_hidden_layers"]):
        shapes |= bert_layer(f"bert/layer_{layer}", width, inner)
    yield GoogleCase(
        "canine",
        "canine.modeling_canine.CanineModel",
        "load_tf_weights_in_canine",
        shapes,
        config,
        ("canine_config.json", own),
    )


def imagegpt_cases() -> Iterator[GoogleCase]:
    width, heads, inner, colors = 12, 3, 48, 16
    size = width // heads
    shapes: Shapes = {
        "model/wte": [colors, width],
        "model/wpe": [25, width],
        "model/sos": [width],
        "model/wtet": [colors, width],
        "model/ln_f/g": [width],
    }
    for layer in range(3):
        scope = f"model/h{layer}"
        shapes |= {
            f"{scope}/ln_1/g": [width],
            f"{scope}/ln_2/g": [width],
            **{f"{scope}/attn/{part}_proj": [heads, size, width] for part in "qkvc"},
            f"{scope}/mlp/c_fc/w": [1, width, inner],
            f"{scope}/mlp/c_fc/b": [inner],
            f"{scope}/mlp/c_proj/w": [1, inner, width],
            f"{scope}/mlp/c_proj/b": [width],
        }
    config = {
        "vocab_size": colors + 1,
        "n_positions": 25,
        "n_embd": width,
        "n_head": heads,
        "n_layer": 3,
    }
    biases = [
        f"transformer.h.{i}.attn.{part}.bias" for i in range(3) for part in ("c_attn", "c_proj")
    ]
    yield GoogleCase(
        "imagegpt",
        "imagegpt.modeling_imagegpt.ImageGPTForCausalImageModeling",
        "load_tf_weights_in_imagegpt",
        shapes,
        config,
        unread=tuple(biases),
    )


def mobilenet_cases() -> Iterator[GoogleCase]:
    def batch_norm(scope: str, width: int) -> Shapes:
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        return {f"{scope}/BatchNorm/{part}": [width] for part in parts}

    def convolution(scope: str, size: int, inputs: int, outputs: int) -> Shapes:
        return {f"{scope}/weights": [size, size, inputs, outputs], **batch_norm(scope, outputs)}

    def depthwise(scope: str, width: int) -> Shapes:
        return {f"{scope}/depthwise_weights": [3, 3, width, 1], **batch_norm(scope, width)}

    widths = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    shapes = convolution("MobilenetV1/Conv2d_0", 3, 3, widths[0])
    for index in range(1, 14):
        shapes |= depthwise(f"MobilenetV1/Conv2d_{index}_depthwise", widths[index - 1])
        scope = f"MobilenetV1/Conv2d_{index}_pointwise"
        shapes |= convolution(scope, 1, widths[index - 1], widths[index])
    shapes["MobilenetV1/Logits/Conv2d_1c_1x1/weights"] = [1, 1, 256, 5]
    shapes["MobilenetV1/Logits/Conv2d_1c_1x1/biases"] = [5]
    yield GoogleCase(
        "mobilenet_v1",
        "mobilenet_v1.modeling_mobilenet_v1.MobileNetV1ForImageClassification",
        "load_tf_weights_in_mobilenet_v1",
        shapes,
        {"depth_multiplier": 0.25, "num_labels": 5},
        ("config.json", {"model_type": "mobilenet_v1"}),
        unread_endings=("num_batches_tracked",),
    )
    # Widths of 0.35: the rounding of the original code.
    widths = [8, 8, 8, 16, 16, 16, 24, 24, 24, 24, 32, 32, 32, 56, 56, 56, 112]
    body = {
        **convolution("MobilenetV2/Conv", 3, 3, 16),
        **depthwise("MobilenetV2/expanded_conv/depthwise", 16),
        **convolution("MobilenetV2/expanded_conv/project", 1, 16, widths[0]),
        **convolution("MobilenetV2/Conv_1", 1, widths[16], 1280),
    }
    for index in range(16):
        scope, inside = f"MobilenetV2/expanded_conv_{index + 1}", 6 * widths[index]
        body |= convolution(f"{scope}/expand", 1, widths[index], inside)
        body |= depthwise(f"{scope}/depthwise", inside)
        body |= convolution(f"{scope}/project", 1, inside, widths[index + 1])
    classifier = {
        "MobilenetV2/Logits/Conv2d_1c_1x1/weights": [1, 1, 1280, 5],
        "MobilenetV2/Logits/Conv2d_1c_1x1/biases": [5],
    }
    segmentation = {
        **convolution("image_pooling", 1, widths[16], 256),
        **convolution("aspp0", 1, widths[16], 256),
        **convolution("concat_projection", 1, 512, 256),
        "logits/semantic/weights": [1, 1, 256, 5],
        "logits/semantic/biases": [5],
    }
    for name, cls, head in (
        ("classifier", "ForImageClassification", classifier),
        ("segmentation", "ForSemanticSegmentation", segmentation),
    ):
        yield GoogleCase(
            f"mobilenet_v2-{name}",
            f"mobilenet_v2.modeling_mobilenet_v2.MobileNetV2{cls}",
            "load_tf_weights_in_mobilenet_v2",
            {**body, **head},
            {"depth_multiplier": 0.35, "num_labels": 5},
            unread_endings=("num_batches_tracked",),
            takes_averages=True,
        )


def bert_generation_cases() -> Iterator[GoogleCase]:
    config = SHALLOW
    shapes: Shapes = {
        "module/bert/embeddings/word_embeddings": [config["vocab_size"], 24],
        "module/bert/embeddings/position_embeddings": [config["max_position_embeddings"], 24],
        **norm("module/bert/embeddings/LayerNorm", 24),
        **bert_encoder("module/bert", config),
    }
    yield GoogleCase(
        "bert_generation",
        "bert_generation.modeling_bert_generation.BertGenerationEncoder",
        "load_tf_weights_in_bert_generation",
        shapes,
        config,
        call="model, prefix, class_name",
        arguments={"is_encoder": True},
    )
