"""WordPiece (BERT, DistilBERT, ELECTRA, MPNet) as nodes of a graph."""

from __future__ import annotations

import json

from equipoise.exporters.text.added_tokens import mark_added_tokens, mark_of
from equipoise.exporters.text.character_rules import measure_characters
from equipoise.exporters.text.graph_builder import (
    EXTENSIONS,
    ML,
    GraphBuilder,
    TextBuilder,
    Value,
)
from equipoise.exporters.text.tokenizer_spec import TokenizerSpec, unsupported


class WordPiece:
    """The part between the special tokens, as a graph.

    A text becomes words separated by spaces (:mod:`~equipoise.exporters.text.character_rules`); the operator
    ``WordpieceTokenizer`` cuts each into pieces. Where it does not get to the end of a word it keeps the pieces it has found and adds the unknown
    token; WordPiece makes one unknown token of the whole word. So words with an unknown piece are replaced afterwards.

    Args:
        spec: The tokenizer.

    Raises:
        InputError: The tokenizer does something that this graph cannot do.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self.rules = measure_characters(self._rewrite)
        self.unknown = str(spec.model["unk_token"])
        self.indices = {
            **spec.vocabulary,
            **{mark_of(i): token.index for i, token in enumerate(spec.added_tokens)},
        }

    def _rewrite(self, text: str) -> str:
        backend = self.spec.backend
        if backend.pre_tokenizer is None:
            raise unsupported("it has no pre-tokenizer")
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        return " ".join(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))

    def add_to(self, builder: GraphBuilder, text: str) -> str:
        """Adds the nodes for one text; returns the name of its token numbers: int64 (tokens,)."""
        words = self.words(builder, text)
        ends = builder.add(
            "Range", [builder.integer(0), self._count(builder, words), builder.integer(1)]
        )
        pieces, starts, _, _ = builder.add_many(
            "WordpieceTokenizer",
            [words, ends],
            4,
            domain=EXTENSIONS,
            vocab=json.dumps(self.indices, ensure_ascii=False),
            suffix_indicator=str(self.spec.model["continuing_subword_prefix"]),
            unknown_token=self.unknown,
            max_input_chars_per_word=int(self.spec.model["max_input_chars_per_word"]),
        )
        numbers = builder.add(
            "LabelEncoder",
            [pieces],
            domain=ML,
            keys_strings=list(self.indices),
            values_int64s=list(self.indices.values()),
            default_int64=-1,
        )
        return self._one_unknown_a_word(builder, numbers, starts)

    def words(self, builder: TextBuilder[Value], text: Value) -> Value:
        """Returns the words of a text; a mark is one of them."""
        text = mark_added_tokens(builder, self.spec, text, spaced=True)
        return builder.split(self.rules.add_to(builder, text), "( +)")

    def _count(self, builder: GraphBuilder, words: str) -> str:
        """Adds the number of words plus one: the operator wants the begin of each row, and the end of the last."""
        size = builder.add("Size", [words])
        return builder.add("Add", [size, builder.integer(1)])

    def _one_unknown_a_word(self, builder: GraphBuilder, numbers: str, starts: str) -> str:
        """Adds the nodes that make one unknown token of each word with an unknown piece.

        Example: pieces ``[he, ##llo, p, [UNK], a]`` with words that begin at 0, 2 and 4 (and end at 5) have unknown pieces per word
        ``[0, 1, 0]``; the first piece of the second word becomes ``[UNK]``, its others go.
        """
        unknown = builder.integer(self.spec.vocabulary[self.unknown])
        zero = builder.integers(0)
        is_unknown = builder.add("Cast", [builder.add("Equal", [numbers, unknown])], to=7)
        before = builder.add(
            "Concat", [zero, builder.add("CumSum", [is_unknown, builder.integer(0)])], axis=0
        )
        at_starts = builder.add("Gather", [before, starts])
        most = builder.integers(1 << 62)
        one = builder.integers(1)
        firsts = builder.add("Slice", [starts, zero, builder.integers(-1)])
        per_word = builder.add(
            "Sub",
            [
                builder.add("Slice", [at_starts, one, most]),
                builder.add("Slice", [at_starts, zero, builder.integers(-1)]),
            ],
        )
        length = builder.add("Shape", [numbers])
        nothing = builder.add("Expand", [zero, length])
        ones = builder.add("Expand", [one, builder.add("Shape", [firsts])])
        is_first = builder.add("ScatterElements", [nothing, firsts, ones])
        word = builder.add(
            "Sub", [builder.add("CumSum", [is_first, builder.integer(0)]), builder.integer(1)]
        )
        is_bad = builder.add(
            "Greater", [builder.add("Gather", [per_word, word]), builder.integer(0)]
        )
        kept = builder.add(
            "Or", [builder.add("Not", [is_bad]), builder.add("Cast", [is_first], to=9)]
        )
        return builder.add("Compress", [builder.add("Where", [is_bad, unknown, numbers]), kept])
