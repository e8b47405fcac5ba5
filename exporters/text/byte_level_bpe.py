"""Byte-level BPE (GPT-2, RoBERTa, BART) as nodes of a graph.

The operator could be told of added tokens too. But it swallows what only begins like one: of ``<mask`` nothing is left where ``<mask>`` is known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from equipoise.exporters.text.added_tokens import pattern_of, strip_around_tokens
from equipoise.exporters.text.graph_builder import EXTENSIONS, ML, NO_MATCH, GraphBuilder
from equipoise.exporters.text.tokenizer_spec import TokenizerSpec, unsupported

_AROUND = ("<s>", "</s>")
"""Tokens that the operator puts around every text."""
_OPERATOR_TOKENS = (*_AROUND, "<pad>", "<unk>")
"""Tokens that the operator finds in a text, whether the tokenizer knows them or not."""
_CUT = "\U0001fffe"
"""Where a text is cut; Unicode promises that this is no character."""
_ONE_TOKEN = len(_AROUND) + 1


class ByteLevelBpe:
    """The part between the special tokens, as a graph.

    Args:
        spec: The tokenizer.

    Raises:
        InputError: The tokenizer does something that the operators cannot do.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        steps = [str(one["type"]) for one in spec.pre_tokenizers]
        if steps != ["ByteLevel"] or not spec.pre_tokenizers[0].get("use_regex", True):
            raise unsupported(
                f"BPE after {', '.join(steps) or 'no pre-tokenizer'}, not after ByteLevel"
            )
        if spec.normalizers:
            names = ", ".join(str(one["type"]) for one in spec.normalizers)
            raise unsupported(f"no operator normalizes a text by {names} before byte-level BPE")
        if spec.model.get("ignore_merges") or spec.model.get("dropout"):
            raise unsupported("its BPE ignores merges or has dropout")
        self.adds_prefix_space = bool(spec.pre_tokenizers[0].get("add_prefix_space"))
        known = {one.content for one in spec.added_tokens}
        self.foreign = [one for one in _OPERATOR_TOKENS if one not in known]
        if self.foreign and self.adds_prefix_space:
            raise unsupported(
                "a space before each part of a text, without RoBERTa's special tokens"
            )
        self.vocabulary = dict(spec.model["vocab"])
        for token in _AROUND:
            self.vocabulary.setdefault(token, len(spec.vocabulary) + len(self.vocabulary))

    def add_to(self, builder: GraphBuilder, text: str) -> str:
        """Adds the nodes for one text; returns the name of its token numbers: int64 (tokens,).

        The operator tokenizes the parts of the text between added tokens, one a row, and the added tokens too, as if they
        were text; the first number of such a row becomes that of the token, its others go.
        """
        text = strip_around_tokens(builder, self.spec, text)
        parts = builder.split(text, *self._patterns()) if self.spec.added_tokens else text
        for token in self.foreign:
            # GPT-2 cuts between `<` and a letter in any case.
            parts = builder.replace(parts, _letters_apart(token), rf"\1{_CUT}\2")
        if self.foreign:
            parts = builder.split(parts, f"({_CUT})")
        # One part more, since the operator takes no empty vector.
        parts = builder.add("Concat", [parts, builder.text("")], axis=0)
        index = builder.add(
            "LabelEncoder",
            [parts],
            domain=ML,
            keys_strings=[one.content for one in self.spec.added_tokens] or [NO_MATCH],
            values_int64s=[one.index for one in self.spec.added_tokens] or [-1],
            default_int64=-1,
        )
        is_added = builder.add("GreaterOrEqual", [index, builder.integer(0)])
        if self.adds_prefix_space:
            spaced = builder.replace(parts, r"\A([^ ])", r" \1")
            parts = builder.add("Where", [is_added, parts, spaced])
        numbers, mask, _ = builder.add_many(
            "RobertaTokenizer",
            [parts],
            3,
            domain=EXTENSIONS,
            model_name="Roberta",
            vocab=json.dumps(self.vocabulary, ensure_ascii=False),
            merges="\n".join(_merge_lines(self.spec.model["merges"])),
        )
        return self._one_number_a_token(builder, numbers, mask, index)

    def _patterns(self) -> tuple[str, str]:
        pattern = f"({pattern_of(self.spec.added_tokens)})"
        return pattern, pattern

    def _one_number_a_token(
        self, builder: GraphBuilder, numbers: str, mask: str, index: str
    ) -> str:
        """Adds the nodes that join the rows of the operator.

        Each row has ``<s>`` before its numbers and ``</s>`` after them, whatever the tokenizer does. Example: ``[[<s>, 5, 6, </s>], [<s>, 7, 8, </s>]]``
        where the second row is the added token 2 becomes ``[5, 6, 2]``.
        """
        column = builder.add("Unsqueeze", [index, builder.integers(1)])
        is_added = builder.add("GreaterOrEqual", [column, builder.integer(0)])
        length = builder.add("ReduceSum", [mask, builder.integers(1)], keepdims=1)
        length = builder.add("Where", [is_added, builder.integer(_ONE_TOKEN), length])
        width = builder.add("Gather", [builder.add("Shape", [numbers]), builder.integer(1)])
        places = builder.add("Range", [builder.integer(0), width, builder.integer(1)])
        last = builder.add("Sub", [length, builder.integer(1)])
        is_inside = builder.add(
            "And",
            [
                builder.add("Greater", [places, builder.integer(0)]),
                builder.add("Less", [places, last]),
            ],
        )
        flat = builder.integers(-1)
        chosen = builder.add("Where", [is_added, column, numbers])
        return builder.add(
            "Compress",
            [builder.add("Reshape", [chosen, flat]), builder.add("Reshape", [is_inside, flat])],
        )


def _letters_apart(token: str) -> str:
    """Returns a pattern for a token with two groups, the second from its first letter on.

    >>> _letters_apart("</s>")
    '(</)(s>)'
    """
    start = next(index for index, one in enumerate(token) if one.isalpha())
    return f"({token[:start]})({token[start:]})"


def _merge_lines(merges: Sequence[Any]) -> list[str]:
    """Returns the merges as lines; older files have text where newer ones have pairs."""
    return [one if isinstance(one, str) else " ".join(one) for one in merges]
