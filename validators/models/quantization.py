"""Tells whether a program's weights are quantized: by its ``artifact.json``, else by the operators in its file."""

from __future__ import annotations

from pathlib import Path

from equipoise.exporters.artifact import find_manifest

_OPERATORS = (
    b"DynamicQuantizeLinear",
    b"MatMulInteger",
    b"QLinearMatMul",
    b"ConvInteger",
    b"MatMulNBits",
    b"DequantizeLinear",
)
"""Operators of ONNX that work on integers; their names stand in the file as plain text."""
_BLOCK_BYTES = 1 << 24


def quantization_of(path: Path) -> str:
    """Returns what quantized the weights of a program, e.g. ``int8-dynamic``; empty for floats.

    Args:
        path: What a backend loads: a file, or the folder of an artifact or SavedModel.
    """
    settings = find_manifest(path).get("settings")
    if isinstance(settings, dict) and settings.get("quantize"):
        return str(settings["quantize"])
    found = _first_operator(path) if path.suffix == ".onnx" and path.is_file() else b""
    return f"the operator {found.decode()}" if found else ""


def _first_operator(path: Path) -> bytes:
    """Returns the first of the operators whose name is in a file; empty if there is none."""
    overlap = max(map(len, _OPERATORS))
    rest = b""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            for name in _OPERATORS:
                if name in rest + block:
                    return name
            rest = block[-overlap:]
    return b""
