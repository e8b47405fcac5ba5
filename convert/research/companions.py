"""Gives the files beside a research repository's weights the names that transformers looks for, and says what its tokenizer needs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.core.errors import ArchitectureError

TOKENIZER_SETTINGS = "tokenizer_config.json"
_WORDPIECES = "vocab.txt"
_MAX_VOCABULARY_BYTES = 64 << 20


def names_for_transformers(model_type: str, names: Iterable[str]) -> dict[str, str]:
    """Returns the name in the output for each companion file: its own, or what the architecture's section ``[google]`` says.

    A file is renamed if it is the only one that fits, and if no other has the new name.

    >>> names_for_transformers("gpt2", ["hparams.json", "encoder.json"])
    {'hparams.json': 'hparams.json', 'encoder.json': 'vocab.json'}
    """
    given = list(names)
    found = {name: name for name in given}
    spec = load_spec(model_type)
    if spec is None:
        return found
    for pattern, new in spec.layouts["google"].get("files", {}).items():
        fitting = [name for name in given if fnmatch(name, pattern)]
        if len(fitting) == 1 and new not in given:
            found[fitting[0]] = new
    return found


def write_tokenizer_settings(config: Config | None, target: Path) -> list[str]:
    """Writes the settings of a WordPiece tokenizer that a repository keeps in its scripts' options; returns the names of the files.

    Its vocabulary says whether it is one of lower case, and the model how long a text may be.
    """
    vocabulary = target / _WORDPIECES
    if (target / TOKENIZER_SETTINGS).exists() or not vocabulary.is_file():
        return []
    if vocabulary.stat().st_size > _MAX_VOCABULARY_BYTES:
        return []
    tokens = vocabulary.read_text(encoding="utf-8", errors="replace").splitlines()
    settings: dict[str, object] = {"do_lower_case": not any(map(_has_capitals, tokens))}
    with contextlib.suppress(ArchitectureError):  # a model without such a limit
        settings["model_max_length"] = config.lookup("max_position_embeddings") if config else None
    text = json.dumps({k: v for k, v in settings.items() if v is not None}, indent=2) + "\n"
    (target / TOKENIZER_SETTINGS).write_text(text, encoding="utf-8")
    return [TOKENIZER_SETTINGS]


def _has_capitals(token: str) -> bool:
    """Whether a token has capitals and is no special token such as ``[CLS]``."""
    is_special = token.startswith("[") and token.endswith("]")
    return not is_special and token != token.lower()
