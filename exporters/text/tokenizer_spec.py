"""What a fast tokenizer does with one text, as data: its ``tokenizer.json`` and its special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import Tokenizer

_PROBE = "a"


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text before anything else happens to it.

    Attributes:
        content: Its text.
        index: Its number.
        strips_left: Whether the white space before it belongs to it.
        strips_right: Whether the white space after it belongs to it.
    """

    content: str
    index: int
    strips_left: bool = False
    strips_right: bool = False


@dataclass(frozen=True)
class TokenizerSpec:
    """What a tokenizer does with one text; plain data, since it travels to a worker process as JSON.

    Attributes:
        text: ``tokenizer.json``.
        before: Numbers of the special tokens before a text.
        after: Numbers of those after it.
        pad_index: Number of the token that fills shorter rows.
        pads_left: Whether it stands before the text.
    """

    text: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad_index: int
    pads_left: bool

    @cached_property
    def backend(self) -> Tokenizer:
        """The tokenizer of the library tokenizers."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.text)

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """The content of ``tokenizer.json``."""
        found: Mapping[str, Any] = json.loads(self.text)
        return found

    @property
    def model(self) -> Mapping[str, Any]:
        """``model`` of ``tokenizer.json``."""
        found: Mapping[str, Any] = self.content["model"]
        return found

    @property
    def kind(self) -> str:
        """``WordPiece``, ``BPE``, ``Unigram`` or ``WordLevel``."""
        return str(self.model["type"])

    @cached_property
    def normalizers(self) -> tuple[Mapping[str, Any], ...]:
        """Steps of the normalizer in order; a sequence is taken apart."""
        return _steps(self.content["normalizer"], "normalizers")

    @cached_property
    def pre_tokenizers(self) -> tuple[Mapping[str, Any], ...]:
        """Steps of the pre-tokenizer in order."""
        return _steps(self.content["pre_tokenizer"], "pretokenizers")

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """All tokens with their numbers, added ones too."""
        found: Mapping[str, int] = self.backend.get_vocab(with_added_tokens=True)
        return found

    @cached_property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """Tokens beside the vocabulary, longest first: so the first alternative of a pattern is the longest match.

        Raises:
            InputError: One is only found between words.
        """
        content = self.content["added_tokens"]
        if words := [one["content"] for one in content if one["single_word"]]:
            raise unsupported(
                f"the added token {words[0]!r} is only found between words (single_word)"
            )
        tokens = [
            AddedToken(one["content"], one["id"], one["lstrip"], one["rstrip"]) for one in content
        ]
        return tuple(sorted(tokens, key=lambda one: -len(one.content)))


def read_tokenizer(tokenizer: Tokenizer) -> TokenizerSpec:
    """Reads what a tokenizer of transformers does with one text.

    Raises:
        InputError: It has no ``tokenizer.json`` or no token for padding, truncates at the left, or puts the special tokens of a text
            somewhere else than around it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise unsupported(f"{type(tokenizer).__name__} is Python code and has no tokenizer.json")
    if tokenizer.pad_token_id is None:
        raise unsupported(
            "it has no token for padding, so that texts of different lengths make no batch"
        )
    if tokenizer.truncation_side != "right":
        raise unsupported("it cuts the begin of a text that is too long (truncation_side: left)")
    before, after = _special_tokens(tokenizer)
    return TokenizerSpec(
        text=backend.to_str(),
        before=before,
        after=after,
        pad_index=tokenizer.pad_token_id,
        pads_left=tokenizer.padding_side == "left",
    )


def unsupported(reason: str) -> InputError:
    """Returns the error for a tokenizer that no graph can be made of."""
    return InputError(
        f"--with-tokenizer: this tokenizer cannot become a graph: {reason}",
        hint="leave out --with-tokenizer, and tokenize with the library tokenizers, which reads tokenizer.json",
    )


def _special_tokens(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the numbers of the special tokens before and after a text."""
    plain = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    whole = tokenizer(_PROBE)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    raise unsupported("it changes a text when it adds special tokens")


def _steps(content: Mapping[str, Any] | None, inner: str) -> tuple[Mapping[str, Any], ...]:
    if content is None:
        return ()
    if content["type"] != "Sequence":
        return (content,)
    return tuple(step for one in content[inner] for step in _steps(one, inner))
