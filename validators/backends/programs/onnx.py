"""Runs an ONNX file, or the graphs of an encoder-decoder model, with ONNX Runtime."""

from __future__ import annotations

import os

from equipoise.validators.backends._graph_cache import has_past
from equipoise.validators.backends.base import Options
from equipoise.validators.backends.programs._onnx_cache import (
    DecoderSession,
    EncoderDecoderSession,
)
from equipoise.validators.backends.programs._onnx_session import OnnxSession


def load(folder: str, class_name: str, options: Options) -> OnnxSession:
    """Loads the graph of a file, or the graphs of a folder; they determine the precision."""
    if os.path.isdir(folder):
        return EncoderDecoderSession(folder, options)
    session = OnnxSession(folder, options)
    if has_past(session):
        return DecoderSession(folder, options, session.session)
    return session
