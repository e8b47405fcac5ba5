"""Checks what the gin file of a T5X checkpoint says of the model: kinds and ranges of its fields, and where they contradict the tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.core.framework_types import JsonValue
from equipoise.convert.core.json_values import is_rate, is_size
from equipoise.convert.research.gin_file import GinBinding, read_bindings

ACTIVATIONS = ("relu", "gelu", "silu", "swish", "tanh", "sigmoid", "relu6", "leaky_relu", "linear")
"""Names that are one function in flax.linen and transformers; ``gelu`` is the approximation, ``gelu_new`` of transformers."""
_SIZES = (
    ("T5Config.num_encoder_layers", "NUM_ENCODER_LAYERS"),
    ("T5Config.num_decoder_layers", "NUM_DECODER_LAYERS"),
    ("T5Config.num_heads", "NUM_HEADS"),
    ("T5Config.head_dim", "HEAD_DIM"),
    ("T5Config.mlp_dim", "MLP_DIM"),
)
"""The sizes that are taken, in a file of T5X's own models and of Flaxformer's."""
_ACTIVATION_FIELDS = ("T5Config.mlp_activations", "MlpBlock.activations")
_RATES = ("T5Config.dropout_rate", "DROPOUT_RATE")
_DISTANCE = "RelativePositionBiases.max_distance"
_VOCABULARY = ("T5Config.vocab_size", "NUMT5X_EMBEDDINGS")
_WIDTH = ("T5Config.emb_dim", "EMBED_DIM")
_OUTPUT = "T5Config.logits_via_embedding"

_Check = tuple[str, Callable[[JsonValue], bool]]


def check_t5x_settings(
    path: Path, shapes: Mapping[str, Shape], embedding: Shape
) -> tuple[str, ...]:
    """Checks the fields of a gin file that a model of transformers gets, and returns notes on what the tensors decide instead.

    Args:
        path: The gin file.
        shapes: The shapes of the checkpoint's variables by name.
        embedding: That of the embedding: rows and width.

    Raises:
        ArchitectureError: A field is missing, has another kind of value than T5X's, or contradicts the tensors.
        CheckpointError: The file cannot be read.
    """
    bindings = read_bindings(path)
    for names in _SIZES:
        if not any(name in bindings for name in names) and _has_part(names[0], shapes):
            raise ArchitectureError(
                f"the gin file says nothing of {names[0]}",
                file=path,
                expected=f"{names[0]} or {names[1]}: {_SIZE[0]}",
                hint="give the config.json of the same model for transformers with --config",
            )
    for name in {one.partition(".")[0] for one in _CHECKS if "." in one} & {*bindings}:
        raise _refuse(path, name, "a class with fields", bindings[name].text)
    # A macro beside a class that has the field itself is not taken.
    unused = {two for one, two in (*_SIZES, _ACTIVATION_FIELDS, _RATES) if one in bindings}
    for name, (expected, holds) in _CHECKS.items():
        if name in bindings and name not in unused and not _holds(bindings[name], holds):
            raise _refuse(path, name, expected, bindings[name].text)
    _check_tensors(path, bindings, shapes, embedding)
    return tuple(_notes(path, bindings, embedding[0]))


def describe_sizes(values: Mapping[str, Any]) -> str:
    """Returns the sizes that a gin file says, as they are taken.

    >>> describe_sizes({"T5Config": {"num_heads": 8}, "NUM_HEADS": 4, "MLP_DIM": 32})
    'T5Config.num_heads = 8, MLP_DIM = 32'
    """
    own = values.get("T5Config", {})
    several = (
        {first: own.get(first.rpartition(".")[2]), second: values.get(second)}
        for first, second in _SIZES
    )
    taken = (next(((name, one) for name, one in two.items() if one), None) for two in several)
    return ", ".join(f"{pair[0]} = {pair[1]}" for pair in taken if pair)


def _has_part(name: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether a checkpoint has what a field is about: an encoder alone has no layers of a decoder."""
    return "decoder" not in name or any(one.startswith("decoder/") for one in shapes)


def _holds(binding: GinBinding, holds: Callable[[JsonValue], bool]) -> bool:
    return binding.is_literal and holds(binding.value)


def _are_activations(value: JsonValue) -> bool:
    """Whether one activation is named, or one and the linear layer that it gates: the second layer is the linear one in transformers."""
    return (
        isinstance(value, list)
        and value[1:] in ([], ["linear"])
        and value[:1] != []
        and isinstance(value[0], str)
        and value[0] in ACTIVATIONS
    )


_SIZE: _Check = ("a positive integer", is_size)
_CHECKS: Mapping[str, _Check] = {
    **{name: _SIZE for names in _SIZES for name in names},
    **dict.fromkeys(_RATES, ("a number from 0 to below 1", is_rate)),
    **dict.fromkeys(
        _ACTIVATION_FIELDS,
        (
            f"('X',) or ('X', 'linear'), X one of {', '.join(ACTIVATIONS)}: what transformers' T5 computes",
            _are_activations,
        ),
    ),
    _DISTANCE: _SIZE,
}


def _check_tensors(
    path: Path, bindings: Mapping[str, GinBinding], shapes: Mapping[str, Shape], embedding: Shape
) -> None:
    """Checks that what the tensors show is what the file says.

    Raises:
        ArchitectureError: It is something else.
    """
    is_gated = any(name.endswith("mlp/wi_0/kernel") for name in shapes)
    named = next((name for name in _ACTIVATION_FIELDS if name in bindings), None)
    value = bindings[named].value if named is not None else ["relu"]
    if isinstance(value, list) and (len(value) == 2) != is_gated:
        raise _refuse(
            path,
            named or _ACTIVATION_FIELDS[0],
            "two activations, as the tensors have mlp/wi_0 and mlp/wi_1"
            if is_gated
            else "one activation, as the tensors have one mlp/wi",
            bindings[named].text if named else "nothing of it, which is ('relu',) in T5X",
        )
    width = embedding[-1]
    for name in _WIDTH:
        if name in bindings and bindings[name].is_literal and bindings[name].value != width:
            raise _refuse(path, name, f"{width}, as the tensors have", bindings[name].text)
    has_layer = "decoder/logits_dense/kernel" in shapes
    output = bindings.get(_OUTPUT)
    if output is not None and output.value is True and has_layer:
        raise _refuse(path, _OUTPUT, "False, as the tensors have decoder/logits_dense", output.text)


def _notes(path: Path, bindings: Mapping[str, GinBinding], rows: int) -> Iterator[str]:
    """Yields a note where the file has another vocabulary than the embeddings have rows."""
    for name in _VOCABULARY:
        binding = bindings.get(name)
        if binding is not None and binding.is_literal and binding.value != rows:
            yield f"the embeddings have {rows} rows and {path.name} says {name} {binding.value}: {rows} is written"


def _refuse(path: Path, name: str, expected: str, found: str) -> ArchitectureError:
    return ArchitectureError(
        f"{name} of the gin file is none that a T5 has",
        file=path,
        expected=expected,
        found=found,
        hint="give the config.json of the same model for transformers with --config",
    )
