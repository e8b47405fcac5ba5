"""ONNX graphs that keep a cache: a decoder with its past, or encoder, decoder and decoder with past."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from equipoise.validators.backends.base import Array
from equipoise.validators.backends.onnx import NUMPY, Session

PAST, PRESENT = "past_key_values.", "present."
ENCODER, DECODER = "encoder_model.onnx", "decoder_model.onnx"
WITH_PAST = "decoder_with_past_model.onnx"
MERGED = "decoder_model_merged.onnx"
SWITCH = "use_cache_branch"
"""Input of a merged decoder: whether it goes on."""


def past_of(session: Session) -> dict[str, list[Any]]:
    """The inputs that hold a past, with their shapes."""
    return {
        value.name: value.shape
        for value in session.session.get_inputs()
        if value.name.startswith(PAST)
    }


def empty(session: Decoder | Seq2Seq, rows: int) -> dict[str, Array]:
    """A past of no tokens."""
    return {
        name: np.zeros((rows, shape[1], 0, shape[3]), NUMPY[session.types[name]])
        for name, shape in session.past.items()
    }


def has_past(session: Session) -> bool:
    """Whether a graph takes a past."""
    return any(name.startswith(PAST) for name in session.accepts)


def is_seq2seq(folder: Path) -> bool:
    """Whether a folder holds the graphs of an encoder and its decoder."""
    decoders = (folder / DECODER, folder / MERGED)
    return (folder / ENCODER).is_file() and any(path.is_file() for path in decoders)


class Decoder(Session):
    """A decoder in one graph; without a past it begins with an empty one."""

    caches = True

    def __init__(self, file: str, options: dict[str, Any], session: Any = None) -> None:
        super().__init__(file, options, session)
        self.past = past_of(self)
        self.accepts = frozenset(self.types) - frozenset(self.past)

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """Everything at once."""
        outputs, _ = self.step(inputs, kwargs, None, None)
        return outputs

    def step(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any, order: list[int] | None
    ) -> tuple[Any, Any]:
        """Feeds what the last step left."""
        past = {} if state is None else chosen(state, order)
        values = self.session.run(self.outputs, self._fed({**inputs, **past}))
        return parted(dict(zip(self.outputs, values, strict=True)))

    def _fed(self, inputs: dict[str, Array]) -> dict[str, Array]:
        given = dict(inputs)
        if not any(name in given for name in self.past):
            rows = len(next(iter(inputs.values())))
            given.update(empty(self, rows))
        return super()._fed(given)


class Seq2Seq(Session):
    """An encoder, a decoder that begins and one that goes on, these two in one file or in two."""

    caches = True

    def __init__(self, folder: str, options: dict[str, Any]) -> None:
        place = Path(folder)
        self.merged = (place / MERGED).is_file()
        super().__init__(str(place / (MERGED if self.merged else DECODER)), options)
        self.past = past_of(self)
        self.encoder = Session(str(place / ENCODER), options)
        self.with_past = self if self.merged else Session(str(place / WITH_PAST), options)
        masked = {"attention_mask"} if "encoder_attention_mask" in self.types else set()
        self.accepts = self.encoder.accepts | {"decoder_input_ids"} | masked

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """Everything at once."""
        outputs, _ = self.step(inputs, kwargs, None, None)
        return outputs

    def step(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any, order: list[int] | None
    ) -> tuple[Any, Any]:
        """The first time through the encoder; then through the decoder with past alone."""
        tokens = {"input_ids": inputs["decoder_input_ids"]}
        if state is None:
            kept = self._encoded(inputs)
            nothing = empty(self, len(tokens["input_ids"]))
            values = self._given(self, {**tokens, **kept, **nothing}, go_on=False)
        else:
            kept = chosen(state, order)
            values = self._given(self.with_past, {**tokens, **kept}, go_on=True)
        outputs, past = parted(values)
        return outputs, {**kept, **past}

    def _encoded(self, inputs: dict[str, Array]) -> dict[str, Array]:
        given = {name: inputs[name] for name in self.encoder.accepts if name in inputs}
        states = self.encoder.run(given, {})["last_hidden_state"]
        kept = {"encoder_hidden_states": states}
        if "attention_mask" in inputs:
            kept["encoder_attention_mask"] = inputs["attention_mask"]
        return kept

    @staticmethod
    def _given(graph: Session, values: dict[str, Array], *, go_on: bool) -> dict[str, Array]:
        """A graph's outputs for those of the values that it takes."""
        every = {**values, SWITCH: np.array([go_on])}
        fed = graph._fed({name: every[name] for name in graph.types})
        return dict(zip(graph.outputs, graph.session.run(graph.outputs, fed), strict=True))


def chosen(state: dict[str, Array], order: list[int] | None) -> dict[str, Array]:
    """The rows of a cache to go on with."""
    if order is None:
        return state
    return {name: value[order] for name, value in state.items()}


def parted(outputs: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Results, and the present as the past of the next step."""
    results = {name: value for name, value in outputs.items() if not name.startswith(PRESENT)}
    past = {
        f"{PAST}{name.removeprefix(PRESENT)}": value
        for name, value in outputs.items()
        if name.startswith(PRESENT)
    }
    return results, past
