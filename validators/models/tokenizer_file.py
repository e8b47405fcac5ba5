"""Makes a tokenizer split texts as its ``tokenizer.json`` says.

Transformers 5 builds the tokenizers of several models (T5, LLaMA, NLLB, mBART-50 ...) from their vocabulary alone: what the
file says of prefixes, normalization and pieces is lost, and a text gets other tokens than in transformers 4.57.6.
"""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.framework_types import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


def follow_tokenizer_file(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """Returns a tokenizer of transformers with the rules of the folder's ``tokenizer.json``, if it has one.

    Args:
        tokenizer: As transformers made it; tokens that it adds stay.
        folder: The model's folder.

    Raises:
        CheckpointError: The file cannot be read.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file() or not getattr(tokenizer, "is_fast", False):
        return tokenizer
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Rules

    try:
        rules = Rules.from_file(str(file))
    except Exception as error:  # the library tokenizers has no class of its own
        raise CheckpointError(f"not a tokenizer: {error}", file=file) from error
    vocabulary = rules.get_vocab()
    missing = [
        AddedToken(str(token), special=token.special, normalized=token.normalized)
        for token in tokenizer.added_tokens_decoder.values()
        if str(token) not in vocabulary
    ]
    rules.add_tokens(missing)
    rules.no_truncation()
    rules.no_padding()
    tokenizer._tokenizer = rules
    return tokenizer
