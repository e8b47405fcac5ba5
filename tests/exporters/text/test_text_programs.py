"""Tokenizers as graphs: their tokens are those of the library tokenizers, whatever the text; what cannot be so is refused."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for name in ("onnxruntime_extensions", "tensorflow_text"):
    # Neither is imported here: each wants a process without the other's libraries.
    if find_spec(name) is None:
        pytest.skip(f"needs {name}", allow_module_level=True)

from equipoise.convert.core.errors import InputError
from equipoise.exporters.target import find_target
from equipoise.exporters.text.character_rules import measure_characters
from equipoise.exporters.text.text_program import write_tokenizer_program
from equipoise.exporters.text.token_rows import RowMaker, text_encoder
from equipoise.exporters.text.tokenizer_spec import TokenizerSpec, read_tokenizer
from equipoise.validators.core.request import Request
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.export.hard_texts import character_texts, hard_texts
from equipoise.validators.export.tokenizer_judgement import WORKER_MODULE, judge_tokenizer
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.runtime.process import WorkerPool

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.filterwarnings("ignore:Token indices"),
]

TASKS = Path(__file__).parents[3] / "fixtures" / "tasks"
CLASSIFIER = TASKS / "text-classification"
SUPPORTED = {
    "text-classification": "WordPiece",
    "question-answering": "WordPiece",
    "text-generation": "BPE",  # GPT-2
    "summarization": "BPE",  # RoBERTa's special tokens
    "token-classification": "BPE",  # a space before the first word, a mask that takes white space
    "fill-mask": "Unigram",  # ALBERT: accents and case go first
    "translation-t5": "Unigram",
    "zero-shot-classification": "Unigram",  # XLM-RoBERTa
}
UNSUPPORTED = {
    "zero-shot-image-classification": "BPE after Split, ByteLevel",
    "text-generation-llama": "BPE after Metaspace",
    "text-to-audio": "Python code",
}


def tokenizer_of(name: str) -> Any:
    """Returns a fixture's tokenizer; GPT-2's gets a token for padding."""
    tokenizer = ModelFolder(TASKS / name).tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def spec_of(name: str) -> TokenizerSpec:
    """Returns what a fixture's tokenizer does."""
    return read_tokenizer(tokenizer_of(name))


class Programs:
    """Writes tokenizers as programs of a target and runs them, in worker processes as an export does."""

    def __init__(self, workers: WorkerPool, folder: Path, target: str) -> None:
        self._workers, self._folder, self._target = workers, folder, target

    def write(self, spec: TokenizerSpec, limit: int | None = None) -> str:
        """Writes a tokenizer; returns the program."""
        file = self._folder / "spec.json"
        file.write_text(json.dumps(asdict(spec)))
        path = str(self._folder / ("tokenizer.onnx" if self._target == "onnx" else "tokenizer"))
        arguments = {"spec": str(file), "path": path, "limit": limit}
        found = self._workers.get("pytorch").call(WORKER_MODULE, "write_tokenizer", **arguments)
        assert found == {"tokens": [one.content for one in spec.added_tokens]}
        return path

    def run(self, path: str, texts: Sequence[str]) -> dict[str, Any]:
        """Runs a program on texts."""
        worker = self._workers.get(self._target)
        found: dict[str, Any] = worker.call(
            WORKER_MODULE, "run_program", path=path, texts=list(texts)
        )
        return found


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "onnx") for name in SUPPORTED),
        *((name, "saved-model") for name, kind in SUPPORTED.items() if kind != "BPE"),
    ],
)
def test_tokens(name: str, target: str, workers: WorkerPool, tmp_path: Path) -> None:
    """Padded rows of a whole list of hard texts, truncated ones too, and no texts at all."""
    spec = spec_of(name)
    assert spec.kind == SUPPORTED[name]
    limit = 37
    programs = Programs(workers, tmp_path, target)
    path = programs.write(spec, limit)
    tokenizer = tokenizer_of(name)
    texts = hard_texts(one.content for one in spec.added_tokens)
    assert len(texts) > 140
    expected = tokenizer(texts, padding=True, truncation=True, max_length=limit)
    found = programs.run(path, texts)
    for index, text in enumerate(texts):
        assert found["attention_mask"][index] == expected["attention_mask"][index], ascii(text)
        kept = np.array(expected["attention_mask"][index], bool)
        row, wanted = (np.array(one["input_ids"][index])[kept] for one in (found, expected))
        assert row.tolist() == wanted.tolist(), ascii(text)
    assert found["input_ids"] == expected["input_ids"]
    assert programs.run(path, [])["input_ids"] == []


@pytest.mark.slow
@pytest.mark.parametrize("splits", [False, True])
def test_table_of_sentencepiece(splits: bool, workers: WorkerPool, tmp_path: Path) -> None:
    """SentencePiece's own normalization (NFKC and more), in `tokenizer.json` as T5 and XLM-RoBERTa have it, on every character."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers.convert_slow_tokenizer import import_protobuf

    sentences = tmp_path / "sentences.txt"
    words = " ".join(hard_texts(())[5:90]).split()
    sentences.write_text("\n".join(" ".join(words[i : i + 7]) for i in range(len(words))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(sentences), model_prefix=str(tmp_path / "m"), vocab_size=400, hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc", minloglevel=2,
    )  # fmt: skip
    model = import_protobuf().ModelProto.FromString((tmp_path / "m.model").read_bytes())
    tokenizer = Tokenizer(models.Unigram([(one.piece, one.score) for one in model.pieces], 0))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
        if splits
        else metaspace
    )
    tokenizer.add_special_tokens(["<mask>"])
    spec = TokenizerSpec(tokenizer.to_str(), (), (), 0, pads_left=False)
    programs = Programs(workers, tmp_path, "onnx")
    path = programs.write(spec)
    texts = [*hard_texts(["<mask>"]), *("".join(parts) for parts in character_texts())]
    found = programs.run(path, texts)
    for text, row, mask in zip(texts, found["input_ids"], found["attention_mask"], strict=True):
        assert row[: sum(mask)] == tokenizer.encode(text).ids, ascii(text)[:2000]


@pytest.mark.parametrize("target", ["onnx", "saved-model"])
def test_padding_at_the_left(target: str, workers: WorkerPool, tmp_path: Path) -> None:
    """A tokenizer that pads at the left is followed."""
    tokenizer = ModelFolder(CLASSIFIER).tokenizer
    tokenizer.padding_side = "left"
    spec = read_tokenizer(tokenizer)
    programs = Programs(workers, tmp_path, target)
    path = programs.write(spec)
    texts = ["a", "a wonderful film, and more"]
    assert programs.run(path, texts) == {
        name: value
        for name, value in tokenizer(texts, padding=True).items()
        if name != "token_type_ids"
    }


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_tokenizers(name: str) -> None:
    """The reason is named."""
    with pytest.raises(InputError, match=re.escape(UNSUPPORTED[name])) as error:
        text_encoder(spec_of(name))
    assert "--with-tokenizer" in str(error.value)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizes a text by NFC"),
        ({"pre_tokenizer": None}, "no pre-tokenizer"),
        ({"model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}, "its model is WordLevel"),
    ],
)
def test_unsupported_steps(step: dict[str, Any], reason: str) -> None:
    """A tokenizer that is nearly a known one is not taken for it."""
    spec = spec_of("text-generation")
    changed = replace(spec, text=json.dumps({**spec.content, **step}))
    with pytest.raises(InputError, match=reason):
        text_encoder(changed)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [("pad_token", None, "no token for padding"), ("truncation_side", "left", "cuts the begin")],
)
def test_unsupported_settings(setting: str, value: Any, reason: str) -> None:
    tokenizer = ModelFolder(CLASSIFIER).tokenizer
    setattr(tokenizer, setting, value)
    with pytest.raises(InputError, match=reason):
        read_tokenizer(tokenizer)


def test_character_rules() -> None:
    """What changes is one of four kinds; what depends on its neighbours is refused."""
    table = str.maketrans({"é": "e", "!": " ! ", "\t": " ", "\u200b": ""})
    rules = measure_characters(lambda text: text.translate(table))
    assert rules.removed == ("\u200b",)
    assert rules.spaces == ("\t",)
    assert rules.isolated == ("!",)
    assert rules.others == {"é": "e"}
    with pytest.raises(InputError, match=r"joins U\+0301 with the letter before it"):
        measure_characters(lambda text: text.replace("a\u0301", "á"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "library", "file"),
    [
        ("onnx", "onnxruntime-extensions", "model_from_text.onnx"),
        ("saved-model", "tensorflow-text", "saved_model_from_text/1"),
    ],
)
def test_from_texts_to_labels(
    target: str, library: str, file: str, workers: WorkerPool, tmp_path: Path
) -> None:
    """README's lines run in a bare process and give the labels and scores that ``run`` gives."""
    out = tmp_path / "out"
    found = export_model(
        ExportRequest(
            Request(CLASSIFIER, cases=["single"]),
            out,
            target,
            judged=False,
            options={"with_tokenizer": True},
        ),
        workers,
    )
    section = found.artifact.text_program
    assert (section["needs"], section["file"]) == (library, file)
    assert section["judged"]["characters"] > 140_000
    assert section["judged"]["max_relative_error"] <= 1e-5
    assert section["max_tokens"] == 40
    assert any(name.startswith(file) for name in found.artifact.files)
    text = (out / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]
    assert code in (TASKS.parents[1] / "docs" / "artifacts.md").read_text(encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = ast.literal_eval(done.stdout.splitlines()[-1])
    inputs = ["A wonderful day.", "A boring story."]
    answers: Any = run_pipeline("text-classification", CLASSIFIER, inputs, workers=workers)
    labels = [one.decode() if isinstance(one, bytes) else one for one in outputs["label"]]
    assert labels == [one["label"] for one in answers]
    np.testing.assert_allclose(outputs["score"], [one["score"] for one in answers], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "character"),
    [("removed", "\u00ad"), ("spaces", "\u00a0"), ("isolated", "!")],
)
def test_a_wrong_graph_is_refused(
    kind: str, character: str, workers: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that treats one character otherwise than the tokenizer does not get through."""
    from equipoise.validators.evaluation.context import prepare_context

    context = prepare_context(Request(CLASSIFIER, cases=["single"]), workers, tmp_path)
    spec = spec_of("text-classification")
    encoder: Any = text_encoder(spec)
    kept = tuple(one for one in getattr(encoder.rules, kind) if one != character)
    encoder.rules = replace(encoder.rules, **{kind: kept})
    path = tmp_path / "wrong.onnx"
    write_tokenizer_program(RowMaker(spec, encoder), path)
    monkeypatch.setattr(
        context.pool.get("pytorch"), "call", lambda *_, **arguments: write_wrong(path, arguments)
    )
    with pytest.raises(InputError, match="other tokens than the tokenizer") as error:
        judge_tokenizer(context, find_target("onnx"))
    assert error.value.expected != error.value.found


def write_wrong(wrong: Path, arguments: dict[str, str]) -> dict[str, Any]:
    """Stands in for the worker: puts a wrong graph where the right one would be."""
    Path(arguments["path"]).write_bytes(wrong.read_bytes())
    return {"tokens": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (str(TASKS / "text-generation"), "--to", "saved-model", "--task", "feature-extraction"),
            "tensorflow-text has no byte-level BPE",
        ),
        ((str(CLASSIFIER), "--to", "torchscript"), "torchscript has no program that takes texts"),
        (
            (str(CLASSIFIER), "--to", "onnx", "--layout", "transformers.js"),
            "tokenizes in JavaScript",
        ),
        ((str(CLASSIFIER), "--to", "onnx", "--batch", "2"), "texts have any number of tokens"),
        ((str(TASKS / "fill-mask"), "--to", "onnx"), "the answer of fill-mask is more"),
    ],
)
def test_refused(
    arguments: tuple[str, ...], message: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """Options that do not fit end with one error and nothing written."""
    model, *options = arguments
    done = cli("export", model, tmp_path / "out", *options, "--with-tokenizer")
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_validate_wants_tokens(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The program from texts is not run on tokens; the message names the one that is."""
    program = tmp_path / "model_from_text.onnx"
    program.write_bytes(b"")
    done = cli("validate", CLASSIFIER, program)
    assert done.code == 2
    assert "this program takes texts" in done.err
