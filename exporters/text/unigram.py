"""Unigram (T5, XLM-RoBERTa, ALBERT) as a node of a graph: SentencePiece with a model made of ``tokenizer.json``.

``tokenizer.json`` and not ``spiece.model`` is the source, since it is what the library tokenizers reads: its numbers are the model's, added tokens
included, where those of ``spiece.model`` are shifted in XLM-RoBERTa and end before ``<mask>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from equipoise.exporters.text.added_tokens import (
    MARK_RANGE,
    WHITE_SPACE,
    mark_added_tokens,
    mark_of,
)
from equipoise.exporters.text.character_rules import (
    CharacterRules,
    measure_characters,
)
from equipoise.exporters.text.graph_builder import (
    EXTENSIONS,
    INT64,
    GraphBuilder,
    TextBuilder,
    Value,
)
from equipoise.exporters.text.precompiled import PrecompiledNormalizer
from equipoise.exporters.text.tokenizer_spec import TokenizerSpec, unsupported

_BLANK = "▁"
_WHOLE_TEXT = ("Strip", "Precompiled", "Replace")
"""Normalizers that look at more than one character; all others look at single ones."""
_SPACES = " {2,}"
_NORMAL, _UNKNOWN, _USER_DEFINED = 1, 2, 4
"""Types of pieces in a SentencePiece model."""
_UNIGRAM = 1
_UNKNOWN_PIECE = "\U0001fffe"
"""Unicode promises that this is no character."""


class Unigram:
    """The part between the special tokens, as a graph.

    The text is cut at its added tokens; each part loses white space and gets its blank (``▁``) as the library tokenizers does it, which differs
    from SentencePiece's own ways. The operator only finds the most likely pieces.

    Args:
        spec: The tokenizer.

    Raises:
        InputError: The tokenizer does something that this graph cannot do.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        steps = {str(one["type"]): one for one in spec.pre_tokenizers}
        if set(steps) - {"Metaspace", "WhitespaceSplit"} or "Metaspace" not in steps:
            raise unsupported(
                f"Unigram after {', '.join(steps) or 'no pre-tokenizer'}, not after Metaspace"
            )
        scheme = steps["Metaspace"].get("prepend_scheme", "always")
        if scheme == "first":
            raise unsupported("only the first word of a text gets a blank (prepend_scheme: first)")
        if spec.model.get("byte_fallback"):
            raise unsupported("Unigram with byte fallback")
        self.splits_at_white_space = "WhitespaceSplit" in steps
        self.prepends_blank = scheme == "always"
        self.rules = self._character_rules()
        self.precompiled = self._precompiled()

    def add_to(self, builder: GraphBuilder, text: str) -> str:
        """Adds the nodes for one text; returns the name of its token numbers: int64 (tokens,)."""
        numbers = builder.add_many(
            "SentencepieceTokenizer",
            [
                self.parts(builder, text),
                builder.integers(0),
                builder.floats(0.0),
                *(builder.booleans(False) for _ in range(4)),
            ],
            3,
            domain=EXTENSIONS,
            model=self.model(),
        )[0]
        table = builder.integers(*self.indices())
        return builder.add("Gather", [table, builder.add("Cast", [numbers], to=INT64)])

    def parts(self, builder: TextBuilder[Value], text: Value) -> Value:
        """Returns the parts of a text that SentencePiece finds pieces in; a mark is one of them."""
        text = mark_added_tokens(builder, self.spec, text)
        for step in self.spec.normalizers:
            if step["type"] == "Replace" and "String" in step["pattern"]:
                found = re.escape(str(step["pattern"]["String"]))
                text = builder.replace(text, found, str(step["content"]))
        text = self.rules.add_to(builder, text)
        if self.precompiled:
            text = self.precompiled.add_to(builder, text)
        if self.spec.added_tokens:
            text = builder.split(text, f"([{MARK_RANGE}])", f"([{MARK_RANGE}])")
        return self._blanks(builder, text)

    def _blanks(self, builder: TextBuilder[Value], parts: Value) -> Value:
        """Adds the nodes that treat the white space of each part of a text."""
        for step in self.spec.normalizers:
            if step["type"] == "Strip":
                for side, pattern in (("strip_left", r"\A{}+"), ("strip_right", r"{}+\z")):
                    if step[side]:
                        parts = builder.replace(parts, pattern.replace("{}", WHITE_SPACE), "")
            elif step["type"] == "Replace" and "Regex" in step["pattern"]:
                if step["pattern"]["Regex"] != _SPACES:
                    raise unsupported(f"its normalizer replaces {step['pattern']['Regex']!r}")
                parts = builder.replace(parts, _SPACES, str(step["content"]))
        if self.splits_at_white_space:
            parts = builder.replace(parts, f"{WHITE_SPACE}+", " ")
            parts = builder.replace(parts, r"\A | \z", "")
            parts = builder.replace(parts, f" {_BLANK}", _BLANK)
        if self.prepends_blank:
            parts = builder.replace(parts, rf"\A([^ {_BLANK}{MARK_RANGE}])", rf"{_BLANK}\1")
        return parts

    def indices(self) -> list[int]:
        """Returns the tokens' numbers by the index of a piece."""
        count = len(self.spec.model["vocab"])
        added = [token.index for token in self.spec.added_tokens]
        return [*range(count), *added, int(self.spec.model["unk_id"])]

    def model(self) -> bytes:
        """Returns the SentencePiece model."""
        # The module that transformers takes: protobuf registers one description of SentencePiece's messages a process.
        from transformers.convert_slow_tokenizer import import_protobuf

        model = import_protobuf().ModelProto()
        unknown = int(self.spec.model["unk_id"])
        for index, (piece, score) in enumerate(self.spec.model["vocab"]):
            is_unknown = index == unknown
            model.pieces.add(
                piece=_UNKNOWN_PIECE if is_unknown else piece,
                score=score,
                type=_UNKNOWN if is_unknown else _NORMAL,
            )
        for position in range(len(self.spec.added_tokens)):
            model.pieces.add(piece=mark_of(position), score=0.0, type=_USER_DEFINED)
        # SentencePiece never finds its unknown piece in a text; the library tokenizers does: `<UNK>` in lower case.
        piece, score = self.spec.model["vocab"][unknown]
        model.pieces.add(piece=piece, score=score, type=_NORMAL)
        trainer, normalizer = model.trainer_spec, model.normalizer_spec
        trainer.model_type = _UNIGRAM
        trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = unknown, -1, -1, -1
        trainer.unk_piece = _UNKNOWN_PIECE
        normalizer.name = "equipoise"
        normalizer.add_dummy_prefix = False
        normalizer.remove_extra_whitespaces = False
        normalizer.escape_whitespaces = True
        return bytes(model.SerializeToString())

    def _character_rules(self) -> CharacterRules:
        """Measures those normalizers that look at single characters."""
        steps = [one for one in self.spec.normalizers if one["type"] not in _WHOLE_TEXT]
        return measure_characters(_normalizer(steps)) if steps else CharacterRules()

    def _precompiled(self) -> PrecompiledNormalizer | None:
        """Measures the normalizer that is SentencePiece's table."""
        steps = [one for one in self.spec.normalizers if one["type"] == "Precompiled"]
        return PrecompiledNormalizer(_normalizer(steps)) if steps else None


def _normalizer(steps: list[Mapping[str, Any]]) -> Callable[[str], str]:
    from tokenizers import Tokenizer, models

    empty = json.loads(Tokenizer(models.WordLevel({}, unk_token="")).to_str())
    empty["normalizer"] = {"type": "Sequence", "normalizers": steps}
    normalize: Callable[[str], str] = Tokenizer.from_str(json.dumps(empty)).normalizer.normalize_str
    return normalize
