r"""Finds added tokens, such as ``[MASK]``, in a text before anything else happens to it.

Each is replaced by one character of a private-use plane, which the rest of the graph has in its vocabulary. Such characters that the
text itself contains become others of another private-use plane first, which no vocabulary contains.

>>> chr(FIRST_MARK)
'\U000f0000'
"""

from __future__ import annotations

import re

from equipoise.exporters.text.graph_builder import FIRST_MARK, TextBuilder, Value
from equipoise.exporters.text.tokenizer_spec import AddedToken, TokenizerSpec

MARK_RANGE = r"\x{F0000}-\x{FFFFD}"
"""The same within a character class of RE2."""
WHITE_SPACE = (
    r"[\x{9}-\x{D} \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]"
)
"""Unicode's ``White_Space``, which the library tokenizers strips and splits at; RE2's ``\\s`` is ASCII alone."""
_STRANGER = "\U00100000"


def mark_of(position: int) -> str:
    """Returns the character that stands for an added token, by its position in the specification."""
    return chr(FIRST_MARK + position)


def mark_added_tokens(
    builder: TextBuilder[Value], spec: TokenizerSpec, text: Value, *, spaced: bool = False
) -> Value:
    """Adds the nodes that replace added tokens by their marks.

    Args:
        builder: The graph.
        spec: The tokenizer.
        text: Name of a vector of one text.
        spaced: Whether the marks get a space before and after them.
    """
    text = strip_around_tokens(builder, spec, text)
    text = builder.replace(text, f"[{MARK_RANGE}]", _STRANGER)
    if not spec.added_tokens:
        return text
    pattern = f"({pattern_of(spec.added_tokens)})"
    space = " " if spaced else ""
    marks = {
        token.content: f"{space}{mark_of(position)}{space}"
        for position, token in enumerate(spec.added_tokens)
    }
    return builder.join(builder.translate(builder.split(text, pattern, keep=pattern), marks))


def strip_around_tokens(builder: TextBuilder[Value], spec: TokenizerSpec, text: Value) -> Value:
    """Adds the nodes that remove the white space which belongs to an added token."""
    for pattern, tokens in (
        (WHITE_SPACE + "*({})", [one for one in spec.added_tokens if one.strips_left]),
        ("({})" + WHITE_SPACE + "*", [one for one in spec.added_tokens if one.strips_right]),
    ):
        if tokens:
            text = builder.replace(text, pattern.replace("{}", pattern_of(tokens)), r"\1")
    return text


def pattern_of(tokens: list[AddedToken] | tuple[AddedToken, ...]) -> str:
    r"""Returns an RE2 pattern that matches one of these tokens.

    >>> pattern_of([AddedToken("[SEP]", 2), AddedToken("<s>", 0)])
    '\\[SEP\\]|<s>'
    """
    return "|".join(re.escape(token.content) for token in tokens)
