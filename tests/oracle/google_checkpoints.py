"""Variables of the research repositories' checkpoints: their names and shapes, as the code of each repository makes them.

Written by hand from what each repository's model code creates under its scopes, and from no file of Equipoise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class GoogleCase:
    """One checkpoint, and what loads it in transformers 4.57.6.

    Attributes:
        name: Of the case.
        model: Module and class below ``transformers.models``.
        loader: Function that loads it, in the same module.
        variables: Names and shapes.
        config: The config of the class.
        own_config: File and values of the config as the repository writes it; None for a ``config.json``.
        architecture: What a user has to name; None where the tensors say it.
        partitioned: The variable that is stored in slices.
        unread: Parameters that the loader does not fill: they follow from the config.
        unread_endings: The same, by what their names end with.
        takes_averages: Whether the loader takes moving averages where there are some.
        only_there: Parameters that only the loaded class stores: they follow from the config, or ours lacks them.
        renamed: Module in the loaded class -> the module that Equipoise's class has for it.
        below: What Equipoise's names begin with and the loaded class's do not.
        lent: Attributes that the loader looks for where the class does not have them -> where it has them.
        call: What the loader takes, in order.
        arguments: Further arguments of the loader.
        dtype: Of the variables.
    """

    name: str
    model: str
    loader: str
    variables: Shapes
    config: Mapping[str, Any]
    own_config: tuple[str, Mapping[str, Any] | str] | None = None
    architecture: str | None = None
    partitioned: str | None = None
    unread: tuple[str, ...] = ()
    unread_endings: tuple[str, ...] = ()
    takes_averages: bool = False
    only_there: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    below: str = ""
    lent: Mapping[str, str] = field(default_factory=dict)
    call: str = "model, config, prefix"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def model_type(self) -> str:
        """The model type that a config of transformers would say."""
        package = self.model.split(".")[-3]
        return TYPE_OF_PACKAGE.get(package, package)


TYPE_OF_PACKAGE = {
    "transfo_xl": "transfo-xl",
    "decision_transformer": "gpt2",
    "bert_generation": "bert-generation",
}

SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 40,
    "type_vocab_size": 3,
}
SHALLOW = {**SIZES, "num_hidden_layers": 3}
SQUARE = {
    **SIZES,
    "vocab_size": 24,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "num_hidden_layers": 2,
}
"""Every matrix of the layers is square."""


def dense(scope: str, inputs: int, outputs: int) -> Shapes:
    return {f"{scope}/kernel": [inputs, outputs], f"{scope}/bias": [outputs]}


def norm(scope: str, width: int) -> Shapes:
    return {f"{scope}/gamma": [width], f"{scope}/beta": [width]}


def embeddings(
    scope: str, config: Mapping[str, Any], width: int, *, positions: bool = True
) -> Shapes:
    found = {
        f"{scope}/word_embeddings": [config["vocab_size"], width],
        f"{scope}/token_type_embeddings": [config["type_vocab_size"], width],
    }
    if positions:
        found[f"{scope}/position_embeddings"] = [config["max_position_embeddings"], width]
    return found


def bert_layer(scope: str, width: int, inner: int) -> Shapes:
    return {
        **dense(f"{scope}/attention/self/query", width, width),
        **dense(f"{scope}/attention/self/key", width, width),
        **dense(f"{scope}/attention/self/value", width, width),
        **dense(f"{scope}/attention/output/dense", width, width),
        **norm(f"{scope}/attention/output/LayerNorm", width),
        **dense(f"{scope}/intermediate/dense", width, inner),
        **dense(f"{scope}/output/dense", inner, width),
        **norm(f"{scope}/output/LayerNorm", width),
    }


def bert_encoder(scope: str, config: Mapping[str, Any]) -> Shapes:
    found: Shapes = {}
    for layer in range(config["num_hidden_layers"]):
        found |= bert_layer(
            f"{scope}/encoder/layer_{layer}", config["hidden_size"], config["intermediate_size"]
        )
    return found


def bert(config: Mapping[str, Any], scope: str = "bert", *, pooler: bool = True) -> Shapes:
    width = config["hidden_size"]
    return {
        **embeddings(f"{scope}/embeddings", config, width),
        **norm(f"{scope}/embeddings/LayerNorm", width),
        **bert_encoder(scope, config),
        **(dense(f"{scope}/pooler/dense", width, width) if pooler else {}),
    }


def masked_lm(config: Mapping[str, Any], width: int | None = None) -> Shapes:
    width = width or config["hidden_size"]
    return {
        **dense("cls/predictions/transform/dense", config["hidden_size"], width),
        **norm("cls/predictions/transform/LayerNorm", width),
        "cls/predictions/output_bias": [config["vocab_size"]],
    }


def rows(scope: str, count: int, width: int) -> Shapes:
    """Returns the variables of a head that run_classifier.py and run_squad.py make by hand."""
    start = f"{scope}/" if scope else ""
    return {f"{start}output_weights": [count, width], f"{start}output_bias": [count]}


def all_cases() -> Iterator[GoogleCase]:
    """Yields the cases that loaders judge, and the one that outputs judge."""
    yield from cases()
    yield xlnet_squad_case()


def cases() -> Iterator[GoogleCase]:
    yield from bert_cases()
    yield from albert_cases()
    yield from electra_cases()
    yield from mobilebert_cases()
    yield from bert_kin_cases()
    yield from tapas_cases()
    yield from convbert_cases()
    yield from funnel_cases()
    yield from xlnet_cases()
    yield from transfo_xl_cases()
    yield from gpt_cases()
    yield from t5_cases()
    yield from canine_cases()
    yield from imagegpt_cases()
    yield from mobilenet_cases()
    yield from bert_generation_cases()


def bert_cases() -> Iterator[GoogleCase]:
    for name, config in (("pretraining", SIZES), ("square", SQUARE)):
        yield GoogleCase(
            f"bert-{name}",
            "bert.modeling_bert.BertForPreTraining",
            "load_tf_weights_in_bert",
            {**bert(config), **masked_lm(config), **rows("cls/seq_relationship", 2, 24)},
            config,
            ("bert_config.json", config),
            partitioned="bert/embeddings/word_embeddings",
        )
    model, loader = "bert.modeling_bert.Bert", "load_tf_weights_in_bert"
    own = ("bert_config.json", SHALLOW)
    yield from _run_classifier_cases("bert", model, loader, bert(SHALLOW), SHALLOW, own)
    masked = {**bert(SHALLOW, pooler=False), **masked_lm(SHALLOW)}
    yield GoogleCase("bert-masked", f"{model}ForMaskedLM", loader, masked, SHALLOW, own)


def albert_cases() -> Iterator[GoogleCase]:
    width, narrow, inner = 24, 12, 36
    config = {**SIZES, "embedding_size": narrow, "num_hidden_groups": 2, "inner_group_num": 3}
    body: Shapes = {
        **embeddings("bert/embeddings", config, narrow),
        **norm("bert/embeddings/LayerNorm", narrow),
        **dense("bert/encoder/embedding_hidden_mapping_in", narrow, width),
        **dense("bert/pooler/dense", width, width),
    }
    for group in range(2):
        for layer in range(3):
            scope = f"bert/encoder/transformer/group_{group}/inner_group_{layer}"
            for part in ("query", "key", "value"):
                body |= dense(f"{scope}/attention_1/self/{part}", width, width)
            body |= dense(f"{scope}/attention_1/output/dense", width, width)
            body |= norm(f"{scope}/LayerNorm", width)
            body |= dense(f"{scope}/ffn_1/intermediate/dense", width, inner)
            body |= dense(f"{scope}/ffn_1/intermediate/output/dense", inner, width)
            body |= norm(f"{scope}/LayerNorm_1", width)
    heads = {**masked_lm(config, narrow), **rows("cls/seq_relationship", 2, width)}
    loader = "load_tf_weights_in_albert"
    own = ("albert_config.json", config)
    model = "albert.modeling_albert.Albert"
    yield GoogleCase(
        "albert-pretraining", f"{model}ForPreTraining", loader, {**body, **heads}, config, own
    )
    hub = {f"module/{name}": shape for name, shape in {**body, **heads}.items()}
    yield GoogleCase("albert-hub", f"{model}ForPreTraining", loader, hub, config, own)
    yield GoogleCase(
        "albert-classifier",
        f"{model}ForSequenceClassification",
        loader,
        {**body, **rows("", 5, width)},
        {**config, "num_labels": 5},
        own,
    )
    yield GoogleCase(
        "albert-squad",
        f"{model}ForSequenceClassification",
        loader,
        {**body, **rows("cls/squad", 2, width)},
        {**config, "num_labels": 2},
        own,
        renamed={"classifier": "qa_outputs"},
        only_there=("albert.pooler.weight", "albert.pooler.bias"),
    )
    del body["bert/pooler/dense/kernel"], body["bert/pooler/dense/bias"]
    yield GoogleCase(
        "albert-masked",
        f"{model}ForMaskedLM",
        loader,
        {**body, **masked_lm(config, narrow)},
        config,
        own,
    )


def electra_cases() -> Iterator[GoogleCase]:
    config = {**SIZES, "num_hidden_layers": 3, "embedding_size": 12}
    width, narrow = 24, 12
    shapes: Shapes = {
        **embeddings("electra/embeddings", config, narrow),
        **norm("electra/embeddings/LayerNorm", narrow),
        **dense("electra/embeddings_project", narrow, width),
        **bert_encoder("electra", config),
        **dense("discriminator_predictions/dense", width, width),
        **dense("discriminator_predictions/dense_1", width, 1),
        **dense("generator/embeddings_project", narrow, width),
        **bert_encoder("generator", config),
        **dense("generator_predictions/dense", width, narrow),
        **norm("generator_predictions/LayerNorm", narrow),
        "generator_predictions/output_bias": [config["vocab_size"]],
    }
    loader = "load_tf_weights_in_electra"
    own = ("electra_config.json", config)
    for cls, role, named in (
        ("ElectraForPreTraining", "discriminator", None),
        ("ElectraForMaskedLM", "generator", "ElectraForMaskedLM"),
    ):
        yield GoogleCase(
            f"electra-{role}",
            f"electra.modeling_electra.{cls}",
            loader,
            shapes,
            config,
            own,
            architecture=named,
            arguments={"discriminator_or_generator": role},
        )


def mobilebert_cases() -> Iterator[GoogleCase]:
    width, narrow, inside, inner = 24, 8, 12, 20
    config = {
        **SIZES,
        "num_hidden_layers": 2,
        "embedding_size": narrow,
        "intra_bottleneck_size": inside,
        "intermediate_size": inner,
        "num_feedforward_networks": 3,
    }
    shapes: Shapes = {
        "bert/embeddings/word_embeddings": [config["vocab_size"], narrow],
        "bert/embeddings/token_type_embeddings": [config["type_vocab_size"], width],
        "bert/embeddings/position_embeddings": [config["max_position_embeddings"], width],
        **dense("bert/embeddings/embedding_transformation", 3 * narrow, width),
        **norm("bert/embeddings/FakeLayerNorm", width),
        **dense("bert/pooler/dense", width, width),
        **masked_lm(config),
        "cls/predictions/extra_output_weights": [config["vocab_size"], width - narrow],
        **rows("cls/seq_relationship", 2, width),
    }
    for layer in range(2):
        scope = f"bert/encoder/layer_{layer}"
        for part, inputs in (("query", inside), ("key", inside), ("value", width)):
            shapes |= dense(f"{scope}/attention/self/{part}", inputs, inside)
        shapes |= dense(f"{scope}/attention/output/dense", inside, inside)
        shapes |= norm(f"{scope}/attention/output/FakeLayerNorm", inside)
        for part in ("input", "attention"):
            shapes |= dense(f"{scope}/bottleneck/{part}/dense", width, inside)
            shapes |= norm(f"{scope}/bottleneck/{part}/FakeLayerNorm", inside)
        for start in (f"{scope}/ffn_layer_0", f"{scope}/ffn_layer_1", scope):
            shapes |= dense(f"{start}/intermediate/dense", inside, inner)
            shapes |= dense(f"{start}/output/dense", inner, inside)
            shapes |= norm(f"{start}/output/FakeLayerNorm", inside)
        shapes |= dense(f"{scope}/output/bottleneck/dense", inside, width)
        shapes |= norm(f"{scope}/output/bottleneck/FakeLayerNorm", width)
    loader, model = "load_tf_weights_in_mobilebert", "mobilebert.modeling_mobilebert.MobileBert"
    own = ("bert_config.json", config)
    yield GoogleCase("mobilebert", f"{model}ForPreTraining", loader, shapes, config, own)
    body = {name: shape for name, shape in shapes.items() if not name.startswith("cls/")}
    yield from _run_classifier_cases("mobilebert", model, loader, body, config, own)


def _run_classifier_cases(
    name: str, model: str, loader: str, body: Shapes, config: Mapping[str, Any], own: Any = None
) -> Iterator[GoogleCase]:
    """Yields what run_classifier.py and run_squad.py leave; their loader looks for the first head on the model itself."""
    yield GoogleCase(
        f"{name}-classifier",
        f"{model}ForSequenceClassification",
        loader,
        {**body, **rows("", 5, 24)},
        {**config, "num_labels": 5},
        own,
        lent={"weight": "classifier.weight", "bias": "classifier.bias"},
    )
    base = model.rpartition(".")[2].lower()
    yield GoogleCase(
        f"{name}-squad",
        f"{model}ForSequenceClassification",
        loader,
        {**body, **rows("cls/squad", 2, 24)},
        {**config, "num_labels": 2},
        own,
        renamed={"classifier": "qa_outputs"},  # what the loader calls SQuAD's head
        only_there=(f"{base}.pooler.dense.weight", f"{base}.pooler.dense.bias"),
    )


def bert_kin_cases() -> Iterator[GoogleCase]:
    config = SHALLOW
    narrow = 12
    shapes = {
        **embeddings("bert/embeddings", config, narrow),
        **norm("bert/embeddings/LayerNorm", narrow),
        **dense("bert/encoder/embedding_hidden_mapping_in", narrow, 24),
        **bert_encoder("bert", config),
        **dense("bert/pooler/dense", 24, 24),
    }
    model, loader = "rembert.modeling_rembert.RemBert", "load_tf_weights_in_rembert"
    wide = {**config, "input_embedding_size": narrow}
    pretrained = {**shapes, **rows("cls/seq_relationship", 2, 24), **masked_lm(config)}
    yield GoogleCase("rembert", f"{model}Model", loader, pretrained, wide)
    yield from list(_run_classifier_cases("rembert", model, loader, shapes, wide))[:1]
    tokens = {k: v for k, v in bert(config).items() if "position_embeddings" not in k}
    yield GoogleCase(
        "nezha",
        "deprecated.nezha.modeling_nezha.NezhaForPreTraining",
        "load_tf_weights_in_nezha",
        {**tokens, **masked_lm(config), **rows("cls/seq_relationship", 2, 24)},
        config,
        ("bert_config.json", config),
        lent={"bert": "nezha"},
    )
    model, loader = "deprecated.nezha.modeling_nezha.Nezha", "load_tf_weights_in_nezha"
    for case in _run_classifier_cases(
        "nezha", model, loader, tokens, config, ("bert_config.json", config)
    ):
        yield replace(case, lent={**case.lent, "bert": "nezha"})
    yield GoogleCase(
        "roformer",
        "roformer.modeling_roformer.RoFormerForMaskedLM",
        "load_tf_weights_in_roformer",
        {
            **embeddings("bert/embeddings", config, narrow, positions=False),
            **norm("bert/embeddings/LayerNorm", narrow),
            **dense("bert/embeddings_project", narrow, 24),
            **bert_encoder("bert", config),
            **masked_lm(config, narrow),
        },
        {**config, "embedding_size": narrow},
        ("bert_config.json", {**config, "embedding_size": narrow}),
        unread=("roformer.encoder.embed_positions.weight",),
    )
    yield GoogleCase(
        "big_bird",
        "big_bird.modeling_big_bird.BigBirdForPreTraining",
        "load_tf_weights_in_big_bird",
        {
            **embeddings("bert/embeddings", config, 24),
            **norm("bert/encoder/LayerNorm", 24),
            **bert_encoder("bert", config),
            **dense("bert/pooler/dense", 24, 24),
            **dense("cls/predictions/transform", 24, 24),
            **norm("cls/predictions/transform", 24),
            "cls/predictions/output_bias": [config["vocab_size"]],
            **rows("cls/seq_relationship", 2, 24),
        },
        config,
        call="model, prefix",
    )


def tapas_cases() -> Iterator[GoogleCase]:
    types = [3, 7, 5, 2]
    config = {**SIZES, "num_hidden_layers": 3, "type_vocab_sizes": types}
    own = {**config, "type_vocab_size": types}
    del own["type_vocab_sizes"]
    body: Shapes = {
        "bert/embeddings/word_embeddings": [config["vocab_size"], 24],
        "bert/embeddings/position_embeddings": [config["max_position_embeddings"], 24],
        **{
            f"bert/embeddings/token_type_embeddings_{index}": [count, 24]
            for index, count in enumerate(types)
        },
        **norm("bert/embeddings/LayerNorm", 24),
        **bert_encoder("bert", config),
        **dense("bert/pooler/dense", 24, 24),
    }
    cells: Shapes = {"output_weights": [24], "output_bias": []}
    columns: Shapes = {"column_output_weights": [24], "column_output_bias": []}
    loader, model = "load_tf_weights_in_tapas", "tapas.modeling_tapas.Tapas"
    yield GoogleCase(
        "tapas-questions",
        f"{model}ForQuestionAnswering",
        loader,
        {**body, **cells, **columns, "output_weights_agg": [4, 24], "output_bias_agg": [4]},
        {**config, "num_aggregation_labels": 4},
        ("bert_config.json", own),
    )
    yield GoogleCase(
        "tapas-classifier",
        f"{model}ForSequenceClassification",
        loader,
        {**body, **cells, "output_weights_cls": [5, 24], "output_bias_cls": [5]},
        {**config, "num_labels": 5},
        ("bert_config.json", own),
    )
    yield GoogleCase(
        "tapas-pretraining",
        f"{model}ForMaskedLM",
        loader,
        {**body, **masked_lm(config), **rows("cls/seq_relationship", 2, 24)},
        config,
        ("bert_config.json", own),
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


def relative_attention(scope: str, width: int, heads: int, size: int, norms: str) -> Shapes:
    """Returns the kernels of XLNet's attention; its biases lie elsewhere."""
    return {
        **{f"{scope}/rel_attn/{part}/kernel": [width, heads, size] for part in "qkvr"},
        **norm(f"{scope}/rel_attn/{norms}", width),
        **norm(f"{scope}/ff/{norms}", width),
    }


def funnel_cases() -> Iterator[GoogleCase]:
    # The loader of 4.57.6 is right only where the heads together are as wide as the model.
    width, heads, size, inner, layers = 24, 4, 6, 36, 8
    config = {
        "vocab_size": 61, "d_model": width, "n_head": heads, "d_head": size, "d_inner": inner,
        "block_sizes": [3, 2, 1], "num_decoder_layers": 2,
    }  # fmt: skip
    own = {
        "vocab_size": 61, "d_model": width, "d_embed": width, "n_head": heads, "d_head": size, "d_inner": inner,
        "block_size": "3_2_1", "decoder_size": "2", "ff_activation": "gelu", "dropout": 0.1, "dropatt": 0.1,
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
    shapes = {"gpt2/wte": [61, width], "gpt2/wpe": [40, width], **scale("gpt2/ln_f")}
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


def canine_cases() -> Iterator[GoogleCase]:
    width, inner, buckets = 24, 36, 17
    config = {
        **SIZES, "num_hidden_layers": 11, "num_hash_functions": 4, "num_hash_buckets": buckets, "type_vocab_size": 5,
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
    for layer in range(11):
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
        "n_layer": 11,
    }
    biases = [
        f"transformer.h.{i}.attn.{part}.bias" for i in range(11) for part in ("c_attn", "c_proj")
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
