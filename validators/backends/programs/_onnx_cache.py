"""ONNX graphs that keep a cache: a decoder with its past, or encoder, decoder and decoder with past."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.validators.backends import _graph_cache
from equipoise.validators.backends.base import Array
from equipoise.validators.backends.programs.onnx import Session

ENCODER, DECODER = "encoder_model.onnx", "decoder_model.onnx"
WITH_PAST = "decoder_with_past_model.onnx"
MERGED = "decoder_model_merged.onnx"


def is_seq2seq(folder: Path) -> bool:
    """Whether a folder holds the graphs of an encoder and its decoder."""
    decoders = (folder / DECODER, folder / MERGED)
    return (folder / ENCODER).is_file() and any(path.is_file() for path in decoders)


class Caching(Session):
    """Graphs of which one after the other runs; what can be seen inside is that of the first that decodes."""

    caches = True
    model: _graph_cache.Decoder | _graph_cache.Seq2Seq

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """Everything at once."""
        outputs, _ = self.step(inputs, kwargs, None, None)
        return outputs

    def step(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any, order: list[int] | None
    ) -> tuple[Any, Any]:
        """Feeds what the last step left."""
        return self.model.step(inputs, state, order)


class Decoder(Caching):
    """A decoder in one graph; without a past it begins with an empty one."""

    def __init__(self, file: str, options: dict[str, Any], session: Any = None) -> None:
        super().__init__(file, options, session)
        self.model = _graph_cache.Decoder(self)
        self.accepts = self.model.accepts

    def _fed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        return super()._fed({**_graph_cache.empty_past(self, rows), **inputs})


class Seq2Seq(Caching):
    """An encoder, a decoder that begins and one that goes on, these two in one file or in two."""

    def __init__(self, folder: str, options: dict[str, Any]) -> None:
        place = Path(folder)
        merged = (place / MERGED).is_file()
        super().__init__(str(place / (MERGED if merged else DECODER)), options)
        with_past = self if merged else Session(str(place / WITH_PAST), options)
        self.model = _graph_cache.Seq2Seq(Session(str(place / ENCODER), options), self, with_past)
        self.accepts = self.model.accepts
