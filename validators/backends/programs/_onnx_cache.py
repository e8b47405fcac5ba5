"""Runs ONNX graphs with a KV cache: a decoder with past, or encoder, decoder and decoder with past."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.core.framework_types import OrtSession
from equipoise.exporters.artifact_files import onnx_encoder_decoder_files
from equipoise.validators.backends import _graph_cache
from equipoise.validators.backends.base import Array, CacheState, Kwargs, Options, Outputs
from equipoise.validators.backends.programs._onnx_session import OnnxSession


class CachedOnnxSession(OnnxSession):
    """A session of one or several graphs with a cache."""

    caches = True
    model: _graph_cache.DecoderGraph | _graph_cache.EncoderDecoderGraphs

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs of one forward pass by name."""
        outputs, _ = self.step(inputs, kwargs, None, None)
        return outputs

    def step(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState, order: list[int] | None
    ) -> tuple[Outputs, CacheState]:
        """Runs one forward pass with a cache; see :meth:`equipoise.validators.backends.base.Session.step`."""
        return self.model.step(inputs, state, order)


class DecoderSession(CachedOnnxSession):
    """A decoder in one graph, which starts with an empty past."""

    def __init__(self, file: str, options: Options, session: OrtSession = None) -> None:
        super().__init__(file, options, session)
        self.model = _graph_cache.DecoderGraph(self)
        self.accepts = self.model.accepts


class EncoderDecoderSession(CachedOnnxSession):
    """An encoder, a decoder for the first token and a decoder with past; both decoders may be one merged file."""

    def __init__(self, folder: str, options: Options) -> None:
        files = onnx_encoder_decoder_files(Path(folder))
        merged = files["decoder"] == files["decoder_with_past"]
        super().__init__(str(files["decoder"]), options)
        encoder = OnnxSession(str(files["encoder"]), options)
        with_past = self if merged else OnnxSession(str(files["decoder_with_past"]), options)
        self.model = _graph_cache.EncoderDecoderGraphs(encoder, self, with_past)
        self.accepts = self.model.accepts
        self._others = (encoder,) if merged else (encoder, with_past)

    @property
    def graphs(self) -> tuple[OnnxSession, ...]:
        """The sessions of encoder and decoders."""
        return (self, *self._others)
