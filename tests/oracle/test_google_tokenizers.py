"""Folders of research repositories with their vocabularies: the output's tokenizer and model load without a word about either."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google_checkpoints import GoogleCase, cases

from equipoise.convert import convert
from equipoise.fixtures.bundles import encode_entry, write_bundle

CASES = {case.name: case for case in cases()}
TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "a model reads a text",
    "weights and names of layers",
]
PIECES: dict[str, dict[str, Any]] = {
    "albert-pretraining": {
        "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": -1,
        "eos_id": -1,
    },
    "t5-rms_norm": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "xlnet": {"control_symbols": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]},
}
"""Case -> the special tokens of its SentencePiece model."""


def write_pieces(path: Path, options: dict[str, Any]) -> None:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=61,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    path.write_bytes(model.getvalue())


def write_folder(case: GoogleCase, folder: Path) -> Path:
    """Writes the variables of a case, which are zeros, and its config."""
    folder.mkdir()
    entries, size = {}, 0
    for name, shape in sorted(case.variables.items()):
        nbytes = 4 * int(np.prod(shape))
        entries[name.encode()] = encode_entry(shape, nbytes, offset=size)
        size += nbytes
    write_bundle(folder / "model.index", entries, bytes(size))
    assert case.own_config is not None
    name, values = case.own_config
    (folder / name).write_text(values if isinstance(values, str) else json.dumps(dict(values)))
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("albert-pretraining", "30k-clean.model"),
        ("t5-rms_norm", "cc_all.32000.model"),
        ("xlnet", "spiece.model"),
    ],
)
def test_pieces(name: str, file: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = write_folder(CASES[name], tmp_path / "source")
    write_pieces(source / file, PIECES[name])
    convert(source, tmp_path / "out", to="pytorch")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert "".join(tokenizer.tokenize(TEXTS[1])).replace("▁", " ").strip() == TEXTS[1]


def test_byte_pairs(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = write_folder(CASES["gpt2"], tmp_path / "source")
    letters = {letter: index for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    (source / "encoder.json").write_text(json.dumps({**letters, "he": 26, "<|endoftext|>": 27}))
    (source / "vocab.bpe").write_text("#version: 0.2\nh e\n")
    convert(source, tmp_path / "out", to="pytorch")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("hehello") == ["he", "he", "l", "l", "o"]
