"""Ends a text where one of given strings ends, also in the middle of a token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import Array

_PREFIX = "abcdef"
"""A text before a token: with it, a tokenizer writes the token as inside a text."""


class StopStrings:
    """Finds whether sequences end with a string, as ``StopStringCriteria`` of transformers.

    Args:
        tokenizer: The model's tokenizer.
        strings: The strings.
    """

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = tuple(strings)
        self._longest = max(map(len, strings))
        ids = tokenizer(_PREFIX, add_special_tokens=False)["input_ids"]
        self._base = tokenizer.convert_ids_to_tokens(ids)
        self._text_of = cache(self._decode)

    def __call__(self, sequences: Array) -> list[bool]:
        """Returns for each row (length,) whether a string ends in its last token."""
        return [self._ends(row) for row in sequences.tolist()]

    def _ends(self, tokens: list[int]) -> bool:
        *before, last = map(self._text_of, tokens[-self._longest :])
        start = len("".join(before))
        text = "".join(before) + last
        return any(
            # The string must end behind the first character of the last token.
            text.find(string, max(start - len(string) + 1, 0)) >= 0
            for string in self._strings
        )

    def _decode(self, token: int) -> str:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        text = str(self._tokenizer.convert_tokens_to_string([*self._base, piece]))
        return text[text.index(_PREFIX) + len(_PREFIX) :]
