"""File names of programs in an artifact: exporters write them, backends and loaders look for them."""

from __future__ import annotations

from pathlib import Path

from equipoise.exporters.cache_names import ROLES, WHOLE_MODEL

ONNX_MODEL = "model.onnx"
ONNX_ENCODER = "encoder_model.onnx"
ONNX_DECODER = "decoder_model.onnx"
ONNX_DECODER_WITH_PAST = "decoder_with_past_model.onnx"
ONNX_MERGED_DECODER = "decoder_model_merged.onnx"
ONNX_SHARED_WEIGHTS = "weights.data"
"""Weights of all graphs of an encoder-decoder model; equal ones are stored once."""

JAX_PROGRAM = "program.jax"
JAX_WEIGHTS = "flax_model.msgpack"
SAVED_MODEL = "saved_model/1"
"""Folder of a SavedModel: version 1 of a servable."""


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


def has_onnx_encoder_decoder(folder: Path) -> bool:
    """Checks whether a folder holds the ONNX graphs of an encoder and its decoder."""
    decoders = (folder / ONNX_DECODER, folder / ONNX_MERGED_DECODER)
    return (folder / ONNX_ENCODER).is_file() and any(path.is_file() for path in decoders)
