"""The normalizer ``Precompiled`` (SentencePiece's table, NFKC and more) as the library tokenizers applies it, as nodes of a graph.

SentencePiece looks for the longest entry of its table at every character. The library tokenizers looks at one grapheme cluster at a
time, a letter with its accents: of a cluster below six bytes it takes the table's first entry that begins it, of a longer one it looks at each character.
So `e` with one accent is composed, `a` with five is not, and of `か` with a separate mark (six bytes) nothing is. The graph does the same: clusters
with an entry of their own, clusters whose first character has one, single characters.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from equipoise.exporters.text.character_rules import (
    CharacterRules,
    character_class,
    measure_each,
)
from equipoise.exporters.text.graph_builder import TextBuilder, Value

_OTHER_EXTENDING = "\u200c\u200d\uff9e\uff9f" + "".join(map(chr, range(0x1F3FB, 0x1F400)))
"""Joiners, voiced marks of half width and skin tones: no marks, and they belong to the character before them all the same."""
_PREPENDED = "".join(
    map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))
)
"""Signs of format that belong to the character after them."""
_SHORT_BYTES = 6
"""Clusters of fewer bytes are looked up as a whole."""


class PrecompiledNormalizer:
    """The normalizer, measured.

    Args:
        normalize: Applies it to a text.
    """

    def __init__(self, normalize: Callable[[str], str]) -> None:
        self.characters: CharacterRules = measure_each(normalize)
        self.clusters = {
            cluster: result
            for cluster in _short_clusters()
            if (result := normalize(cluster)) != "".join(map(normalize, cluster))
        }

    def add_to(self, builder: TextBuilder[Value], text: Value) -> Value:
        """Adds the nodes that normalize one text; returns the name of the result."""
        extending = character_class([*_marks(), *_OTHER_EXTENDING])
        pattern = f"({character_class(_controls())}|(?s:.){extending}*)"
        clusters = builder.split(text, pattern, pattern)
        changed = [*self.characters.spaces, *self.characters.removed, *self.characters.others]
        # Entries of more than one character first: they begin with one that may have an entry too.
        for heads in (list(self.clusters), changed):
            if heads:
                clusters = builder.replace(clusters, _with_a_mark(heads), r"\1\2\3")
            clusters = builder.translate(clusters, self.clusters)
        return self.characters.add_to(builder, builder.join(clusters))


def _with_a_mark(heads: Sequence[str]) -> str:
    """Returns a pattern for short clusters of an entry and one more mark, with the entry as the only group that matches.

    The entry is the first in the table that begins the cluster, and its mark is dropped.
    """
    marks = [*_marks(), *_OTHER_EXTENDING]
    options = []
    for length in (1, 2, 3):
        found = [one for one in heads if len(one.encode()) == length]
        short = [one for one in marks if length + len(one.encode()) < _SHORT_BYTES]
        options.append(f"({_any_of(found)}){character_class(short)}")
    return rf"\A(?:{'|'.join(options)})\z"


def _any_of(texts: Sequence[str]) -> str:
    """Returns a pattern for one of some texts; for none it matches nothing."""
    single = [one for one in texts if len(one) == 1]
    options = [re.escape(one) for one in texts if len(one) > 1]
    options += [character_class(single)] if single else []
    return "|".join(options) or r"[^\x{0}-\x{10FFFF}]"


@cache
def _marks() -> tuple[str, ...]:
    """Returns the characters that Unicode calls marks."""
    return _of_categories("Mn", "Mc", "Me")


@cache
def _controls() -> tuple[str, ...]:
    """Returns the characters that no mark belongs to."""
    found = _of_categories("Cc", "Zl", "Zp", "Cf")
    return tuple(one for one in found if one not in _OTHER_EXTENDING and one not in _PREPENDED)


def _of_categories(*names: str) -> tuple[str, ...]:
    points = range(sys.maxunicode + 1)
    return tuple(chr(one) for one in points if unicodedata.category(chr(one)) in names)


def _short_clusters() -> Iterator[str]:
    """Yields letters with accents, taken apart at once or step by step, that are short enough to be looked up as a whole."""
    known = [
        (chr(point), unicodedata.decomposition(chr(point))) for point in range(sys.maxunicode + 1)
    ]
    canonical = {one: parts for one, parts in known if parts and not parts.startswith("<")}
    accents = {
        unicodedata.normalize("NFD", one): one for one in canonical if unicodedata.combining(one)
    }
    for character, parts in canonical.items():
        step = "".join(chr(int(one, 16)) for one in parts.split())
        whole = unicodedata.normalize("NFD", character)
        variants = {
            text.replace(plain, one) for text in (step, whole) for plain, one in accents.items()
        }
        for cluster in {step, whole} | variants:
            if len(cluster) > 1 and len(cluster.encode()) < _SHORT_BYTES:
                yield cluster
