"""What a tokenizer makes of each Unicode character, measured by calling it, and the same as nodes of a graph.

BERT's normalizer removes accents and changes case after Unicode tables of its own release, and its pre-tokenizer has a list of its
own of what punctuation is. Their rules look at one character at a time; so one call for each character is the whole truth:
`é` becomes `e`, `!` becomes ` ! `, U+200B becomes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce

from equipoise.exporters.text.graph_builder import MARK_POINTS, TextBuilder, Value
from equipoise.exporters.text.tokenizer_spec import unsupported

_SEPARATOR = "xqx"
_BLOCK = 1 << 12
_SURROGATES = range(0xD800, 0xE000)

Rewriter = Callable[[str], str]
"""Rewrites a whole text; white space separates what must stay apart."""


@dataclass(frozen=True)
class CharacterRules:
    """What becomes of characters; those that are not named stay as they are.

    Attributes:
        removed: Characters that vanish.
        spaces: Characters that become a space.
        isolated: Characters with a space before and after them.
        others: Character -> what it becomes.
    """

    removed: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    isolated: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)

    def add_to(self, builder: TextBuilder[Value], text: Value) -> Value:
        """Adds the nodes that rewrite one text; returns the name of the result."""
        for characters, replacement in (
            (self.removed, ""),
            (self.spaces, " "),
            (self.isolated, r" \1 "),
        ):
            if characters:
                text = builder.replace(text, f"({character_class(characters)})", replacement)
        if not self.others:
            return text
        single = builder.split(text, "((?s:.))", keep="((?s:.))")
        return builder.join(builder.translate(single, self.others))


def measure_characters(rewrite: Rewriter) -> CharacterRules:
    """Measures what a tokenizer makes of each character.

    Args:
        rewrite: Its normalizer, or its normalizer and pre-tokenizer with spaces between the words.

    Raises:
        InputError: What it makes of a character depends on those beside it.
    """
    return _sorted_by_kind(_rewrite_all(rewrite))


def measure_each(rewrite: Rewriter) -> CharacterRules:
    """Measures what a normalizer makes of each character that stands alone."""
    return _sorted_by_kind((one, rewrite(one)) for one in _all_characters())


def _sorted_by_kind(results: Iterable[tuple[str, str]]) -> CharacterRules:
    """Returns the rules for characters and what becomes of them."""
    removed, spaces, isolated, others = [], [], [], {}
    for character, result in results:
        if result == character:
            continue
        if result == "":
            removed.append(character)
        elif result == " ":
            spaces.append(character)
        elif result == f" {character} ":
            isolated.append(character)
        else:
            others[character] = result
    return CharacterRules(tuple(removed), tuple(spaces), tuple(isolated), others)


def _all_characters() -> list[str]:
    """Returns all characters but surrogates and marks."""
    points = range(sys.maxunicode + 1)
    return [chr(one) for one in points if one not in _SURROGATES and one not in MARK_POINTS]


def _rewrite_all(rewrite: Rewriter) -> Iterator[tuple[str, str]]:
    """Yields every character but marks with what it becomes between two letters."""
    characters = _all_characters()
    for start in range(0, len(characters), _BLOCK):
        block = characters[start : start + _BLOCK]
        results = rewrite(_SEPARATOR.join(f"a{one}a" for one in block)).split(_SEPARATOR)
        if len(results) != len(block):
            raise unsupported("it rewrites letters that stand alone")
        for character, result in zip(block, results, strict=True):
            if len(result) < 2 or result[0] != "a" or result[-1] != "a":
                raise unsupported(f"it joins U+{ord(character):04X} with the letter before it")
            yield character, result[1:-1]


def character_class(characters: Iterable[str]) -> str:
    r"""Returns an RE2 pattern for one of these characters.

    >>> character_class("abcx")
    '[\\x{61}-\\x{63}\\x{78}]'
    """
    ranges: list[tuple[int, int]] = reduce(_extend, sorted(map(ord, characters)), [])
    parts = [
        f"\\x{{{first:X}}}" if first == last else f"\\x{{{first:X}}}-\\x{{{last:X}}}"
        for first, last in ranges
    ]
    return f"[{''.join(parts)}]"


def _extend(ranges: list[tuple[int, int]], point: int) -> list[tuple[int, int]]:
    """Adds a code point, larger than all before it, to a list of ranges."""
    if ranges and ranges[-1][1] == point - 1:
        ranges[-1] = (ranges[-1][0], point)
    else:
        ranges.append((point, point))
    return ranges
