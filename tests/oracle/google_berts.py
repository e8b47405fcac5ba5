"""Checkpoints of BERT and of what kept its code: ALBERT, ELECTRA, MobileBERT, RemBERT, NEZHA, RoFormer, BigBird, TAPAS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from google_shapes import (
    SHALLOW,
    SIZES,
    SQUARE,
    GoogleCase,
    Shapes,
    bert,
    bert_encoder,
    dense,
    embeddings,
    masked_lm,
    norm,
    rows,
)


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
    flat = {
        **embeddings("bert/embeddings", config, 24),
        **norm("bert/encoder/LayerNorm", 24),
        **bert_encoder("bert", config),
        **dense("bert/pooler/dense", 24, 24),
        **dense("cls/predictions/transform", 24, 24),
        **norm("cls/predictions/transform", 24),
        "cls/predictions/output_bias": [config["vocab_size"]],
        **rows("cls/seq_relationship", 2, 24),
    }
    for name, shapes in (("big_bird", flat), ("big_bird-heads", _with_heads(flat, 4))):
        yield GoogleCase(
            name,
            "big_bird.modeling_big_bird.BigBirdForPreTraining",
            "load_tf_weights_in_big_bird",
            shapes,
            config,
            call="model, prefix",
        )


def _with_heads(shapes: Shapes, heads: int) -> Shapes:
    """Returns the shapes with an axis of heads in attention."""
    found = dict(shapes)
    for name, shape in shapes.items():
        if "/attention/self/" in name:
            found[name] = [*shape[:-1], heads, shape[-1] // heads]
        elif name.endswith("/attention/output/dense/kernel"):
            found[name] = [heads, shape[0] // heads, shape[1]]
    return found


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
