"""Recognises quantized weights: by the config, and by the names of the tensors that quantizers write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_NAMES_BY_METHOD = (
    ("bitsandbytes (4 bit)", ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4", "weight.absmax")),
    ("LLM.int8 of bitsandbytes", ("SCB",)),
    ("GPTQ", ("qweight", "qzeros", "g_idx")),
    ("AWQ", ("qweight", "qzeros", "scales")),
    ("fp8", ("weight_scale_inv", "weight_scale", "input_scale")),
    ("compressed-tensors", ("weight_packed", "weight_shape")),
)  # fmt: skip
"""Method -> last parts of tensor names; all of GPTQ's and AWQ's must be there, any of the others'."""
_DEQUANTIZED_HERE = ("bitsandbytes", "gptq", "awq", "fp8", "compressed")
_ALL_NEEDED = frozenset({"GPTQ", "AWQ"})


def quantization_method(config: Mapping[str, object], names: Iterable[str]) -> str | None:
    """Returns what quantized the weights, or None for weights that are plain.

    >>> quantization_method({"quantization_config": {"quant_method": "gptq", "bits": 4}}, [])
    'gptq (4 bits)'
    >>> quantization_method({}, ["h.0.attn.SCB", "h.0.attn.weight"])
    'LLM.int8 of bitsandbytes'
    >>> quantization_method({}, ["h.0.attn.weight"])

    Args:
        config: The values of ``config.json``.
        names: The names of the tensors.
    """
    names = tuple(names)
    settings = config.get("quantization_config") or config.get("quantization")
    if isinstance(settings, Mapping):
        method = settings.get("quant_method") or settings.get("mode") or _bitsandbytes(settings)
        bits = settings.get("bits")
        return f"{method or 'quantization'}" + (f" ({bits} bits)" if isinstance(bits, int) else "")
    for method, endings in _NAMES_BY_METHOD:
        matched = [any(name.endswith(f".{ending}") for name in names) for ending in endings]
        if all(matched) if method in _ALL_NEEDED else any(matched):
            return method
    return None


def dequantization_advice(method: str) -> str:
    """Returns what to do about weights that were quantized so."""
    if any(one in method.lower() for one in _DEQUANTIZED_HERE):
        return "add --dequantize, which computes plain weights from them"
    return "convert the model that it was quantized from"


def _bitsandbytes(settings: Mapping[str, object]) -> str | None:
    if settings.get("load_in_4bit"):
        return "bitsandbytes (4 bit)"
    return "LLM.int8 of bitsandbytes" if settings.get("load_in_8bit") else None
