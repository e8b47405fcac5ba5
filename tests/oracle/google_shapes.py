"""A checkpoint of a research repository for the tests, and the shapes of variables that several repositories make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


def relative_attention(scope: str, width: int, heads: int, size: int, norms: str) -> Shapes:
    """Returns the kernels of XLNet's attention; its biases lie elsewhere."""
    return {
        **{f"{scope}/rel_attn/{part}/kernel": [width, heads, size] for part in "qkvr"},
        **norm(f"{scope}/rel_attn/{norms}", width),
        **norm(f"{scope}/ff/{norms}", width),
    }
