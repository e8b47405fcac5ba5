"""Replaces the quantized weights of a checkpoint by plain floats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import CheckpointError, InputError
from equipoise.convert.core.tensor import DTYPES, TensorRef
from equipoise.convert.quantized.bitsandbytes import find_4bit_weights
from equipoise.convert.quantized.compressed_tensors import find_packed_weights
from equipoise.convert.quantized.grouped import find_awq_weights, find_gptq_weights
from equipoise.convert.quantized.scaled import find_scaled_weights
from equipoise.convert.quantized.weights import QuantizedWeight, plain_ref

_PLAIN_DTYPES = ("float32", "float16", "bfloat16", "float64")


def dequantize(
    tensors: Mapping[str, TensorRef], config: Config | None, method: str | None, path: Path
) -> tuple[dict[str, TensorRef], str]:
    """Returns the tensors with plain weights, and a note; they are computed where they are read, in float64, and rounded once.

    Their dtype is the config's, else that of the weights that are plain.

    Args:
        tensors: The tensors of the checkpoint.
        config: The config of the checkpoint, with ``quantization_config``.
        method: What quantized the weights, for messages; None if they are plain.
        path: The checkpoint, for messages.

    Raises:
        InputError: The weights are not quantized, or in a way whose arithmetic is not known here.
        CheckpointError: A part of a quantized weight is missing or damaged.
    """
    if method is None:
        raise InputError("the weights are not quantized", file=path, hint="leave out --dequantize")
    values = config.values if config is not None else {}
    settings = values.get("quantization_config")
    weights = find_quantized_weights(tensors, settings if isinstance(settings, Mapping) else {})
    if not weights:
        raise InputError(
            f"quantized with {method}, for which --dequantize has no arithmetic",
            file=path,
            expected="fp8 or int8 with scales, LLM.int8, NF4, FP4, GPTQ, AWQ, compressed-tensors",
            hint="load the model with transformers, call dequantize() and save_pretrained()",
        )
    parts = {name for weight in weights for name in weight.parts}
    plain = {name: ref for name, ref in tensors.items() if name not in parts}
    dtype = _plain_dtype(values, plain)
    for weight in weights:
        if weight.name in plain:
            raise CheckpointError(
                "a weight is there plain and quantized", file=path, tensor=weight.name
            )
        plain[weight.name] = plain_ref(weight, dtype)
    note = (
        f"dequantized: {len(weights)} weights of {method}, in float64, rounded once to {dtype.name}"
    )
    return plain, note


def find_quantized_weights(
    tensors: Mapping[str, TensorRef], settings: Mapping[str, object]
) -> list[QuantizedWeight]:
    """Finds all quantized weights; one checkpoint may hold weights of several methods.

    Args:
        tensors: The tensors of the checkpoint.
        settings: ``quantization_config`` of the config.

    Raises:
        CheckpointError: A part of a quantized weight is missing or damaged.
    """
    grouped = find_awq_weights if _is_awq(tensors, settings) else find_gptq_weights
    return [
        *find_scaled_weights(tensors, _block(settings)),
        *find_4bit_weights(tensors),
        *find_packed_weights(tensors),
        *grouped(tensors, settings),
    ]


def _is_awq(tensors: Mapping[str, TensorRef], settings: Mapping[str, object]) -> bool:
    """Whether packed weights are AWQ's: the config says so, or they are packed along their outputs."""
    method = settings.get("quant_method")
    if method in ("awq", "gptq"):
        return method == "awq"
    name = next((name for name in tensors if name.endswith(".qweight")), None)
    scales = tensors.get(f"{(name or '').removesuffix('qweight')}scales")
    if name is None or scales is None or not scales.shape:
        return False
    return tensors[name].shape[-1] != scales.shape[-1]


def _block(settings: Mapping[str, object]) -> tuple[int, ...]:
    found = settings.get("weight_block_size")
    whole = isinstance(found, list) and all(isinstance(size, int) for size in found)
    return tuple(found) if isinstance(found, list) and whole else ()


def _plain_dtype(values: Mapping[str, object], plain: Mapping[str, TensorRef]) -> DType:
    for key in ("dtype", "torch_dtype"):
        name = str(values.get(key, "")).removeprefix("torch.")
        if name in _PLAIN_DTYPES:
            return DTYPES[name]
    found = (ref.dtype for ref in plain.values() if ref.dtype.name in _PLAIN_DTYPES)
    return next(found, DTYPES["float32"])
