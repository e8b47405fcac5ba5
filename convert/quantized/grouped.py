"""GPTQ and AWQ: integers of 2 to 8 bits, packed into integers of 32, with a scale and a zero point for each group of inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import RowReader
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.quantized.packing import unpack_integers
from equipoise.convert.quantized.weights import QuantizedWeight, check_part

_SCALES = ("float16", "bfloat16", "float32")
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""AWQ stores the eight values of a word in the order 0, 2, 4, 6, 1, 3, 5, 7; value k is at position ``_AWQ_ORDER[k]``."""


def find_gptq_weights(
    tensors: Mapping[str, TensorRef], settings: Mapping[str, object]
) -> list[QuantizedWeight]:
    """Finds weights of GPTQ (arXiv:2210.17323): ``weight[o, i] = scale[g, o] * (q[i, o] - zero[g, o])``, ``g`` the group of input ``i``.

    ``qweight`` is packed along the inputs, ``qzeros`` along the outputs. Zero points are stored as one less, unless
    ``checkpoint_format`` is ``gptq_v2``.

    Args:
        tensors: The tensors of the checkpoint.
        settings: ``quantization_config``.

    Raises:
        CheckpointError: A part is missing or has another shape, or the number of bits is not one of GPTQ's.
    """
    bits = settings.get("bits", 4)
    if bits not in (2, 3, 4, 8):
        raise CheckpointError(
            "GPTQ with an unknown number of bits", expected="2, 3, 4 or 8", found=bits
        )
    offset = 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    return [_gptq_weight(module, tensors, int(str(bits)), offset) for module in _modules(tensors)]


def find_awq_weights(
    tensors: Mapping[str, TensorRef], settings: Mapping[str, object]
) -> list[QuantizedWeight]:
    """Finds weights of AWQ (arXiv:2306.00978) in the version GEMM: as GPTQ's, but packed along the outputs, in an order of its own.

    Args:
        tensors: The tensors of the checkpoint.
        settings: ``quantization_config``.

    Raises:
        CheckpointError: A part is missing or has another shape, or the version is another.
    """
    version = str(settings.get("version", "gemm")).lower()
    bits = settings.get("bits", settings.get("w_bit", 4))
    if version != "gemm" or bits != 4:
        raise CheckpointError(
            "an unknown form of AWQ",
            expected="version gemm with 4 bits",
            found=f"{version}, {bits}",
        )
    return [_awq_weight(module, tensors) for module in _modules(tensors)]


def _modules(tensors: Mapping[str, TensorRef]) -> list[str]:
    return [name.removesuffix("qweight") for name in tensors if name.endswith(".qweight")]


def _parts(module: str, tensors: Mapping[str, TensorRef]) -> dict[str, TensorRef]:
    names = (f"{module}{part}" for part in ("qweight", "qzeros", "scales", "g_idx"))
    return {name: tensors[name] for name in names if name in tensors}


def _sizes(module: str, parts: Mapping[str, TensorRef]) -> tuple[int, int]:
    """Returns the number of groups and of outputs."""
    scales = parts.get(f"{module}scales")
    shape = scales.shape if scales is not None else ()
    if len(shape) != 2:
        raise CheckpointError(
            "a quantized weight lacks its scales, of shape [groups, outputs]",
            file=next(iter(parts.values())).file,
            tensor=f"{module}qweight",
        )
    return shape[0], shape[1]


def _gptq_weight(
    module: str, tensors: Mapping[str, TensorRef], bits: int, offset: int
) -> QuantizedWeight:
    parts = _parts(module, tensors)
    groups, outputs = _sizes(module, parts)
    words = parts[f"{module}qweight"].shape[0]
    inputs = words * 32 // bits
    packed = check_part(parts, f"{module}qweight", ("int32",), (words, outputs))
    zeros = check_part(parts, f"{module}qzeros", ("int32",), (groups, outputs * bits // 32))
    scales = check_part(parts, f"{module}scales", _SCALES, (groups, outputs))
    if f"{module}g_idx" in parts:
        check_part(parts, f"{module}g_idx", ("int32", "int64"), (inputs,))

    def open_rows() -> RowReader:
        group = _groups(parts.get(f"{module}g_idx"), inputs, groups)
        values, scale = packed.read(), scales.read().astype(np.float64)
        zero = unpack_integers(zeros.read(), bits, outputs).astype(np.float64) + offset

        def read_rows(start: int, stop: int) -> Array:
            columns = np.ascontiguousarray(values[:, start:stop].T)
            q = unpack_integers(columns, bits, inputs)
            return scale[group, start:stop].T * (q - zero[group, start:stop].T)

        return read_rows

    return QuantizedWeight(f"{module}weight", (outputs, inputs), parts, open_rows)


def _groups(ref: TensorRef | None, inputs: int, groups: int) -> Array:
    """Returns the group of each input."""
    if ref is None:
        return np.arange(inputs) // -(-inputs // groups)
    found = ref.read()
    if found.size and not 0 <= found.min() <= found.max() < groups:
        raise CheckpointError(
            "g_idx names a group that has no scale",
            file=ref.file,
            tensor=ref.name,
            expected=f"0 to {groups - 1}",
            found=f"{found.min()} to {found.max()}",
        )
    return found


def _awq_weight(module: str, tensors: Mapping[str, TensorRef]) -> QuantizedWeight:
    parts = _parts(module, tensors)
    groups, outputs = _sizes(module, parts)
    inputs = parts[f"{module}qweight"].shape[0]
    packed = check_part(parts, f"{module}qweight", ("int32",), (inputs, outputs // 8))
    zeros = check_part(parts, f"{module}qzeros", ("int32",), (groups, outputs // 8))
    scales = check_part(parts, f"{module}scales", _SCALES, (groups, outputs))

    def open_rows() -> RowReader:
        group = _groups(None, inputs, groups)
        values, scale = packed.read(), scales.read().astype(np.float64)
        zero = _unpack_awq(zeros.read()).astype(np.float64)

        def read_rows(start: int, stop: int) -> Array:
            first, last = start // 8, -(-stop // 8)
            q = _unpack_awq(np.ascontiguousarray(values[:, first:last]))
            q = q[:, start - 8 * first : stop - 8 * first]
            return ((q - zero[group, start:stop]) * scale[group, start:stop]).T

        return read_rows

    return QuantizedWeight(f"{module}weight", (outputs, inputs), parts, open_rows)


def _unpack_awq(packed: Array) -> Array:
    """Returns the values of words of AWQ: from ``[rows, words]`` to ``[rows, 8 * words]``."""
    rows, words = packed.shape
    stored = unpack_integers(packed, 4, 8 * words).reshape(rows, words, 8)
    return stored[:, :, _AWQ_ORDER].reshape(rows, 8 * words)
