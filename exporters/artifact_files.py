"""File names of programs in an artifact: exporters write them, backends and loaders look for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from equipoise.exporters.cache_names import ROLES, WHOLE_MODEL

ONNX_MODEL = "model.onnx"
ONNX_ENCODER = "encoder_model.onnx"
ONNX_DECODER = "decoder_model.onnx"
ONNX_DECODER_WITH_PAST = "decoder_with_past_model.onnx"
ONNX_MERGED_DECODER = "decoder_model_merged.onnx"
TEXT_PROGRAM = "model_from_text.onnx"
"""The program that takes texts, beside ``model.onnx``, whose weights it shares."""
ONNX_SHARED_WEIGHTS = "weights.data"
"""Weights of all graphs of an encoder-decoder model; equal ones are stored once."""

TRANSFORMERS_JS = "transformers.js"
"""Value of the option ``layout``: the folders and file names that transformers.js looks for."""
WEB_FOLDER = "onnx"
"""Where transformers.js looks for graphs."""
WEB_SUFFIXES = {"float32": "", "float16": "_fp16", "int8-dynamic": "_quantized"}
"""Precision or quantization of a graph -> the end of its file's name (``dtype`` of transformers.js: fp32, fp16, q8)."""

JAX_PROGRAM = "program.jax"
JAX_WEIGHTS = "flax_model.msgpack"
SAVED_MODEL = "saved_model/1"
"""Folder of a SavedModel: version 1 of a servable."""
TEXT_SAVED_MODEL = "saved_model_from_text/1"
"""The SavedModel that takes texts."""


def jax_program_files(folder: Path) -> dict[str, Path]:
    """Returns the JAX program files of a folder by role, whether they exist or not.

    One ``program.jax`` is a whole model; without it the folder is taken for an encoder-decoder model.
    """
    single = folder / JAX_PROGRAM
    if single.is_file():
        return {WHOLE_MODEL: single}
    return {role: folder / f"{role}.jax" for role in ROLES}


def has_jax_program(folder: Path) -> bool:
    """Checks whether a folder holds a JAX program, or all three of an encoder-decoder model."""
    return all(path.is_file() for path in jax_program_files(folder).values())


def onnx_program(program: str, options: Mapping[str, object], precision: str) -> str:
    """Returns where a program lies in its artifact, with the layout that was asked for.

    >>> onnx_program("model.onnx", {"layout": "transformers.js"}, "float16")
    'onnx/model_fp16.onnx'
    >>> onnx_program("model.onnx", {}, "float16")
    'model.onnx'
    """
    if options.get("layout") != TRANSFORMERS_JS:
        return program
    suffix = WEB_SUFFIXES[str(options.get("quantize") or precision)]
    return f"{WEB_FOLDER}/{with_suffix(program, suffix)}"


def with_suffix(name: str, suffix: str) -> str:
    """Returns a file name with a suffix before its extension.

    >>> with_suffix("model.onnx", "_fp16")
    'model_fp16.onnx'
    """
    return f"{Path(name).stem}{suffix}{Path(name).suffix}"


def onnx_encoder_decoder_files(folder: Path) -> dict[str, Path]:
    """Returns the ONNX graphs of an encoder-decoder model in a folder by role; both decoders may be one file.

    Returns:
        ``encoder``, ``decoder`` and ``decoder_with_past``; empty if the folder has no such graphs.
    """
    for suffix in WEB_SUFFIXES.values():
        encoder, merged, decoder, with_past = (
            folder / with_suffix(name, suffix)
            for name in (ONNX_ENCODER, ONNX_MERGED_DECODER, ONNX_DECODER, ONNX_DECODER_WITH_PAST)
        )
        decoders = (merged, merged) if merged.is_file() else (decoder, with_past)
        if encoder.is_file() and decoders[0].is_file():
            return dict(zip(ROLES, (encoder, *decoders), strict=True))
    return {}
